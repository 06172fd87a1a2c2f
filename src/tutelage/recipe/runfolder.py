"""The run folder: everything that one execution leaves behind, written so that a kill at any moment loses nothing."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from tutelage.recipe.errors import InputError, RunError
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.spec import Recipe

FORMAT = 1
# The stage that trains the control, beside those of the method and of the sources.
BASELINE = "baseline"
MANIFEST, RECIPE, EVENTS, LOCK = "manifest.json", "recipe.yaml", "events.jsonl", ".lock"
_TRACKED = ("tutelage", "torch", "numpy", "safetensors", "accelerate", "torchmetrics", "transformers", "pydantic")


def atomic_write(path: Path, content: bytes | str) -> None:
    """Write a file whole or not at all: beside it, synced, renamed into place, and the rename synced too.

    Raises:
        RunError: The disk is full or the place cannot be written; the text names the path.
    """
    data = content.encode() if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        try:
            with open(beside, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
        _sync(path.parent)
    except OSError as error:
        raise RunError(_said("written", path, error)) from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _said(what: str, path: Path, error: OSError) -> str:
    reasons = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the disk quota is used up",
        errno.EACCES: "permission is denied",
        errno.EPERM: "permission is denied",
        errno.EROFS: "the file system is read-only",
    }
    return f"{path} cannot be {what}: {reasons.get(error.errno or 0, error.strerror or str(error))}"


class RunFolder:
    """A run on disk. Make one with `create` or `open`.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(
        cls,
        recipe: Recipe,
        root: str | os.PathLike[str] = "runs",
        *,
        exact: bool = False,
        parents: tuple[str, ...] = (),
    ) -> RunFolder:
        """A new run folder with its recipe and manifest; it appears complete or not at all.

        Args:
            recipe: What is run.
            root: Folder that holds runs, in which one named ``<name>-<YYYYmmdd-HHMMSS>-<hash8>`` is made.
            exact: Use ``root`` itself as the run folder; it must not exist, or be empty.
            parents: Runs that this one builds on.

        Raises:
            InputError: The place is taken or cannot be written.
            RunError: The disk is full.
        """
        root = Path(root)
        if exact:
            return cls._create(recipe, root, parents)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        digest = recipe.fingerprint()[:8]
        for attempt in range(1000):
            # Two runs of one recipe in the same second differ by a counter.
            name = f"{recipe.name}-{stamp}-{digest}" + (f"-{attempt + 1}" if attempt else "")
            if not (root / name).exists():
                with contextlib.suppress(_Taken):
                    return cls._create(recipe, root / name, parents)
        raise InputError(f"{root}: there is no free name for another run of '{recipe.name}'")

    @classmethod
    def _create(cls, recipe: Recipe, path: Path, parents: tuple[str, ...]) -> RunFolder:
        beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
        made = [p for p in path.parents if not p.exists()]
        try:
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise _Taken(f"{path} exists and is not an empty folder; choose another place for the run")
            beside.mkdir(parents=True)
            for name in ("checkpoints", "model"):
                (beside / name).mkdir()
            atomic_write(beside / RECIPE, recipe.to_yaml())
            atomic_write(beside / MANIFEST, _json(manifest(recipe, parents)))
            atomic_write(beside / EVENTS, "")
            os.replace(beside, path)
            _sync(path.parent)
        except (OSError, RunError, InputError) as error:
            shutil.rmtree(beside, ignore_errors=True)
            for parent in made:
                with contextlib.suppress(OSError):
                    parent.rmdir()
            if not isinstance(error, OSError):
                raise
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise _Taken(f"{path} was taken in the same moment; choose another place for the run") from error
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise RunError(_said("made", path, error)) from error
            raise InputError(_said("made", path, error)) from error
        return cls(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunFolder:
        """An existing run folder.

        Raises:
            InputError: It is no run folder, is damaged, or was written by a newer Tutelage.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise InputError(f"{folder}: there is no such run folder")
        if not (folder / MANIFEST).exists():
            raise InputError(f"{folder} is not a run folder: it has no {MANIFEST}")
        run = cls(folder)
        version = run.manifest().get("format")
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise InputError(f"{folder / MANIFEST} is damaged: its format is {version!r}, expected an integer from 1")
        if version > FORMAT:
            raise InputError(
                f"{folder} was written by a newer Tutelage (format {version}; this one reads up to {FORMAT})"
            )
        return run

    def discard(self) -> None:
        """Take away a run that turned out to be impossible before it did anything."""
        shutil.rmtree(self.path, ignore_errors=True)

    def recipe(self) -> Recipe:
        """The recipe as it was resolved.

        Raises:
            RecipeError: It no longer fits the installed components.
        """
        return load_recipe(self.path / RECIPE)

    def manifest(self) -> dict[str, Any]:
        """What is known of where the run came from.

        Raises:
            InputError: It cannot be read.
        """
        path = self.path / MANIFEST
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(_said("read", path, error)) from error
        except ValueError as error:
            raise InputError(f"{path} is damaged: {error}") from error
        if not isinstance(value, dict):
            raise InputError(f"{path} is damaged: it holds a {type(value).__name__}, expected an object")
        return value

    def update_manifest(self, **fields: Any) -> None:
        """Add or replace manifest entries; mappings are merged one level, e.g. ``data={"train": "sha256:..."}``."""
        value = self.manifest()
        for key, new in fields.items():
            old = value.get(key)
            value[key] = {**old, **new} if isinstance(old, dict) and isinstance(new, Mapping) else new
        atomic_write(self.path / MANIFEST, _json(value))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run: no other process may work in it; the kernel lets go when this process ends, however it ends.

        Raises:
            InputError: Another process holds it; the text gives its id.
        """
        path = self.path / LOCK
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise InputError(_said("opened", path, error)) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise InputError(_said("locked", path, error)) from error
                holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
                raise InputError(f"{self.path} is in use by process {holder}; wait for it or stop it") from error
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def event(self, kind: str, **fields: Any) -> None:
        """Append one event, with the time; a line is written at once, whole.

        Raises:
            RunError: The disk is full or the file cannot be written.
        """
        path = self.path / EVENTS
        line = json.dumps({"time": datetime.now(UTC).isoformat(), "event": kind, **fields}, allow_nan=False) + "\n"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                size = os.fstat(descriptor).st_size
                # A kill can leave half a line; the next event must not be glued to it.
                if size and os.pread(descriptor, 1, size - 1) != b"\n":
                    line = "\n" + line
                data = line.encode()
                while data:
                    data = data[os.write(descriptor, data) :]
            finally:
                os.close(descriptor)
        except OSError as error:
            raise RunError(_said("written", path, error)) from error

    def events(self) -> Iterator[dict[str, Any]]:
        """All events in order; lines torn by a kill are skipped."""
        path = self.path / EVENTS
        try:
            with open(path, "rb") as file:
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            return
        except OSError as error:
            raise InputError(_said("read", path, error)) from error
        for line in lines:
            with contextlib.suppress(ValueError):
                value = json.loads(line)
                if isinstance(value, dict):
                    yield value

    def status(self) -> str:
        """``done``, ``failed``, ``running`` (held by a live process), ``interrupted`` or ``new``."""
        last = ""
        started = False
        for event in self.events():
            started = True
            if event.get("event") in ("started", "resumed", "done", "failed"):
                last = str(event["event"])
        if self._held():
            return "running"
        return last if last in ("done", "failed") else "interrupted" if started else "new"

    def _held(self) -> bool:
        try:
            descriptor = os.open(self.path / LOCK, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False


class _Taken(InputError):
    """Another run has the name."""


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def manifest(recipe: Recipe, parents: tuple[str, ...] = ()) -> dict[str, Any]:
    """Where a run comes from: versions, seed, hardware, git state, parents. Imports nothing heavy."""
    return {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(),
        "recipe": recipe.fingerprint(),
        "source": str(recipe.source) if recipe.source else None,
        "seed": recipe.seed,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _TRACKED}},
        "hardware": {
            "machine": platform.machine(),
            "system": f"{platform.system()} {platform.release()}",
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        },
        "git": _git(),
        "parents": list(parents),
        "data": {},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _git() -> dict[str, Any] | None:
    """Commit and cleanliness of the working folder; ``None`` outside a repository."""

    def ask(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    if commit is None:
        return None
    changed = ask("status", "--porcelain")
    return {"commit": commit, "branch": ask("rev-parse", "--abbrev-ref", "HEAD"), "clean": changed == ""}
