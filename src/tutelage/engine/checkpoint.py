"""Checkpoints: complete or absent, checksummed, and never a pickle."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from tutelage.engine.packing import pack, unpack
from tutelage.recipe.errors import RunError

_NAME = re.compile(r"step-(\d{10})")
FORMAT = 1


class Damaged(Exception):
    """A checkpoint is not what was written."""


def save(root: Path, step: int, state: Any, *, keep: int) -> Path:
    """Write ``root/step-<step>``: the whole of it, or nothing.

    The folder is filled beside, synced, and renamed into place: a process killed at any moment leaves the earlier
    checkpoints as they were and at most a ``.partial`` folder, which the next save removes. Checkpoints of later steps
    go too: this step was reached from an earlier one, so they were damaged and passed over, and would be in the way.

    Args:
        root: Folder that holds a stage's checkpoints.
        step: Optimiser steps done.
        state: Nested state, see `pack`.
        keep: How many of the newest checkpoints stay.

    Raises:
        RunError: The disk is full or cannot be written.
    """
    structure, tensors = pack(state)
    body = {
        "state.json": json.dumps({"format": FORMAT, "step": step, "state": structure}).encode(),
        "state.safetensors": save_tensors(tensors),
    }
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in body.items()}
    body["checksums.json"] = json.dumps(sums).encode()
    target = root / f"step-{step:010d}"
    partial = root / f"{target.name}.partial"
    try:
        root.mkdir(parents=True, exist_ok=True)
        for stale in root.glob("*.partial"):
            shutil.rmtree(stale)
        try:
            partial.mkdir()
            for name, data in body.items():
                with open(partial / name, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            _sync(partial)
        except OSError:
            # What a full disk has no room for is best not left on it.
            shutil.rmtree(partial, ignore_errors=True)
            raise
        for later in [folder for folder in _folders(root) if folder.name >= target.name]:
            shutil.rmtree(later)
        os.rename(partial, target)
        _sync(root)
        for old in sorted(_folders(root), reverse=True)[keep:]:
            shutil.rmtree(old)
    except OSError as error:
        raise RunError(f"could not write the checkpoint {target}: {error.strerror or error}") from error
    return target


def load(folder: Path) -> tuple[int, Any]:
    """Step and state of one checkpoint.

    Raises:
        Damaged: A file is missing, truncated or altered; says which.
    """
    try:
        sums = json.loads((folder / "checksums.json").read_bytes())
        body = {}
        for name in ("state.json", "state.safetensors"):
            body[name] = (folder / name).read_bytes()
            if hashlib.sha256(body[name]).hexdigest() != sums[name]:
                raise Damaged(f"{folder / name} does not match its checksum")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{folder} is incomplete ({error})") from error
    content = json.loads(body["state.json"])
    if content["format"] > FORMAT:
        raise RunError(f"{folder} was written by a newer version of Tutelage (checkpoint format {content['format']})")
    return content["step"], unpack(content["state"], load_tensors(body["state.safetensors"]))


def latest(root: Path, warn: Callable[[str], object] | None = None) -> tuple[int, Any] | None:
    """The newest checkpoint that is whole, or ``None``; damaged ones are named to `warn` and passed over."""
    for folder in sorted(_folders(root), reverse=True):
        try:
            return load(folder)
        except Damaged as damage:
            if warn is not None:
                warn(f"skipped a damaged checkpoint: {damage}")
    return None


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _folders(root: Path) -> Iterator[Path]:
    if root.is_dir():
        yield from (entry for entry in root.iterdir() if _NAME.fullmatch(entry.name))
