"""A graph in a folder of its own: an embedded store, its journal, and what a crash left half done put right."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Literal

from pyoxigraph import NamedNode, RdfFormat, Store, Triple

from tutelage.data.rdf.asking import ask_apart, update_apart
from tutelage.data.rdf.graph import DEFAULT, Answer, Graph, quads, used
from tutelage.data.rdf.journal import Entry, JournalFile, Stamp
from tutelage.data.rdf.terms import Prefixes, Subject, Term, from_lines
from tutelage.recipe.errors import InputError, RunError
from tutelage.recipe.runfolder import atomic_write

_ABOUT, _PENDING, _JOURNAL, _LOCK = "graph.json", "pending.json", "journal.jsonl", ".lock"
Mode = Literal["read", "write"]


class Folder(Graph):
    """A graph on disk.

    One process may write, or several may read; others are told so. A change is written down before it is made and taken
    back if the process dies on the way; files are loaded into a copy that replaces the store when all of them are in.

    Args:
        path: The folder; made where there is none and ``mode`` is ``write``.
        mode: What it is opened for.
        prefixes: Prefixes to add.

    Raises:
        InputError: It is no graph, or another process has it.
    """

    def __init__(self, path: Path, mode: Mode = "read", prefixes: Mapping[str, str] | None = None) -> None:
        self.path, self.mode, self.name = path, mode, str(path)
        self._file: int | None = None
        self._writing = mode == "write"
        if not (path / _ABOUT).is_file():
            self._found(path, mode)
        self._lock(mode)
        try:
            if mode == "write":
                self._recover()
            elif (path / _PENDING).exists():
                # Putting right is writing; readers who find nothing to do share the graph.
                self._lock("write")
                self._writing = True
                self._recover()
                self.__dict__.pop("store", None)
                self._writing = False
                self._lock("read")
            about = self._about()
            self.prefixes = Prefixes({**about["prefixes"], **(prefixes or {})})
            if prefixes and mode == "write":
                self._describe(prefixes=self.prefixes.own)
        except BaseException:
            self.close()
            raise
        self.journal = JournalFile(path / _JOURNAL)

    def _found(self, path: Path, mode: Mode) -> None:
        if mode == "read":
            what = f"{path} is no graph" if path.exists() else f"there is no graph {path}"
            raise InputError(f"{what}; `tutelage graph load {path} FILE...` makes one")
        if path.exists() and (not path.is_dir() or any(p.name != _LOCK for p in path.iterdir())):
            raise InputError(f"{path} exists and is no graph; choose another folder")
        path.mkdir(parents=True, exist_ok=True)
        self._lock("write")
        if not (path / _ABOUT).is_file():
            with storing(path):
                Store(path / "store-1").flush()
            atomic_write(path / _ABOUT, json.dumps({"format": 1, "store": "store-1", "prefixes": {}}, indent=1))

    # ------------------------------------------------------------------ who may work in it

    def _lock(self, mode: Mode) -> None:
        path = self.path / _LOCK
        if self._file is None:
            try:
                self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise InputError(f"{path} cannot be opened: {error.strerror}") from error
        kind = fcntl.LOCK_EX if mode == "write" else fcntl.LOCK_SH
        try:
            fcntl.flock(self._file, kind | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise InputError(f"{path} cannot be locked: {error.strerror}") from error
            holder = os.pread(self._file, 32, 0).decode("ascii", "replace").strip() or "unknown"
            self.close()
            raise InputError(
                f"the graph {self.path} is open in another process ({holder}); wait for it or stop it. Several may "
                "read a graph at once, but who changes it must be alone"
            ) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def hand_on(self) -> None:
        """Let the program that takes this process's place keep the graph locked."""
        if self._file is not None:
            os.set_inheritable(self._file, True)

    def close(self) -> None:
        """Let others in."""
        self.__dict__.pop("store", None)
        if self._file is not None:
            os.close(self._file)
            self._file = None

    # ------------------------------------------------------------------ what a crash left

    def _about(self) -> dict[str, Any]:
        try:
            about: dict[str, Any] = json.loads((self.path / _ABOUT).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path / _ABOUT} cannot be read: {error}") from error
        if about.get("format") != 1:
            raise InputError(f"{self.path} was written by another version of Tutelage (format {about.get('format')})")
        return about

    def _describe(self, **changes: Any) -> None:
        atomic_write(self.path / _ABOUT, json.dumps({**self._about(), **changes}, indent=1))

    def _recover(self) -> None:
        pending = self.path / _PENDING
        current = self._about()["store"]
        if pending.exists():
            found = json.loads(pending.read_text(encoding="utf-8"))
            entry, journal = Entry.from_json(json.dumps(found["entry"])), JournalFile(self.path / _JOURNAL)
            if journal.last() < entry.id:
                if "store" in found:
                    if found["store"] == current:
                        journal.append(entry)
                else:
                    self._replace(self.store, from_lines(entry.added), from_lines(entry.removed))
            pending.unlink()
        for left in self.path.glob("store-*"):
            if left.name != current:
                shutil.rmtree(left, ignore_errors=True)

    @property
    def store_path(self) -> Path:
        """Where the embedded store lies now."""
        return self.path / str(self._about()["store"])

    @cached_property
    def store(self) -> Store:
        """The embedded store."""
        with storing(self.path):
            return Store(self.store_path) if self._writing else Store.read_only(str(self.store_path))

    # ------------------------------------------------------------------ reading

    def match(
        self, subject: Subject | None = None, predicate: NamedNode | None = None, object: Term | None = None
    ) -> Iterator[Triple]:
        """Triples that fit; ``None`` fits all."""
        return (q.triple for q in self.store.quads_for_pattern(subject, predicate, object, DEFAULT))

    def __len__(self) -> int:
        return len(self.store)

    def entries(self) -> Iterator[Entry]:
        """The journal, oldest first."""
        return iter(self.journal)

    def last(self) -> int:
        """Number of the last entry."""
        return self.journal.last()

    def query(self, text: str, *, seconds: float = 30, rows: int = 10_000) -> Answer:
        """Ask in SPARQL, in a process that is stopped where it takes too long."""
        self.__dict__.pop("store", None)
        return ask_apart(self.store_path, text, self.prefixes, seconds=seconds, rows=rows)

    def dump(self, out: IO[bytes], format: RdfFormat) -> None:
        """Write all triples."""
        with storing(self.path):
            self.store.dump(out, format, from_graph=DEFAULT, prefixes=used(self.prefixes))

    # ------------------------------------------------------------------ writing

    def write(self, entry: Entry, removed: Sequence[Triple], added: Sequence[Triple]) -> None:
        """Change triples and add to the journal, both or neither.

        Raises:
            RunError: The disk is full; the graph is as it was.
        """
        pending = self.path / _PENDING
        with storing(self.path):
            atomic_write(pending, json.dumps({"entry": json.loads(entry.to_json())}))
            try:
                self._replace(self.store, removed, added)
                self.journal.append(entry)
            except BaseException:
                # What cannot be taken back now is taken back when the graph is opened next.
                with contextlib.suppress(Exception):
                    self._recover()
                raise
            pending.unlink()

    @staticmethod
    def _replace(store: Store, removed: Sequence[Triple], added: Sequence[Triple]) -> None:
        for quad in quads(removed):
            store.remove(quad)
        store.extend(quads(added))
        store.flush()

    def update(self, text: str, *, seconds: float = 30, stamp: Stamp) -> Entry:
        """Change by SPARQL; a process that is stopped leaves the graph as it was."""
        self.__dict__.pop("store", None)
        entry = Entry(self.last() + 1, "update", stamp.author, stamp.time, (text,))
        update_apart(self.store_path, text, self.prefixes, seconds=seconds)
        self.journal.append(entry)
        return entry

    def load(self, sources: Sequence[Any], stamp: Stamp) -> int:
        """Take in opened files, all or none: into a copy (by hard links), which then takes the store's place."""
        current = self._about()["store"]
        fresh = f"store-{int(current.partition('-')[2]) + 1}"
        target = self.path / fresh
        before = len(self.store)
        try:
            with storing(self.path):
                if before:
                    self.store.backup(target)
                copy = Store(target)
                for source in sources:
                    source.into(copy)
                copy.flush()
                grown = len(copy) - before
                del copy
            found = {name: space for s in sources for name, space in s.prefixes.items()}
            own = {**found, **self.prefixes.own}
            note = f"{grown} triples" + "".join(f"; {w}" for s in sources for w in s.warnings)
            entry = Entry(self.last() + 1, "load", stamp.author, stamp.time, tuple(s.name for s in sources), note=note)
            atomic_write(self.path / _PENDING, json.dumps({"entry": json.loads(entry.to_json()), "store": fresh}))
            self._describe(store=fresh, prefixes=own)
            self.prefixes = Prefixes(own)
            self.journal.append(entry)
            (self.path / _PENDING).unlink()
        finally:
            self.__dict__.pop("store", None)
            self._recover()
        return grown


@contextlib.contextmanager
def storing(path: Path) -> Iterator[None]:
    """Complaints of the store in words.

    Raises:
        RunError: The disk is full, or something else is wrong with it.
    """
    try:
        yield
    except OSError as error:
        text = str(error)
        full = error.errno == errno.ENOSPC or "No space left" in text
        reason = "the disk is full" if full else (error.strerror or text)
        raise RunError(f"{path}: {reason}; the graph is as it was") from error
