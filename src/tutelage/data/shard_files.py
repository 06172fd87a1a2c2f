"""Files that stores are made of: whole or not at all, with a checksum beside, and told apart by what they are of."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy

from tutelage.recipe.errors import InputError
from tutelage.recipe.runfolder import atomic_write


def npy(array: numpy.ndarray[Any, Any]) -> bytes:
    """An array as the content of an ``.npy`` file."""
    buffer = io.BytesIO()
    numpy.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def checksum_path(path: Path) -> Path:
    """Where a file's checksum is, as ``sha256sum -c`` reads it."""
    return path.with_name(f"{path.name}.sha256")


def write_checked(path: Path, data: bytes) -> None:
    """Write a file, then its checksum: a file is there once that is.

    Raises:
        RunError: The disk is full or cannot be written.
    """
    path.parent.mkdir(exist_ok=True)
    atomic_write(path, data)
    atomic_write(checksum_path(path), f"{hashlib.sha256(data).hexdigest()}  {path.name}\n")


def intact(path: Path) -> bool:
    """Whether a file is there and matches its checksum."""
    try:
        kept = checksum_path(path).read_text(encoding="ascii").partition(" ")[0]
        return kept == _sum(path)
    except (OSError, ValueError):
        return False


def described(folder: Path, name: str, version: int, what: str) -> dict[str, Any] | None:
    """What a store says of itself; ``None`` where nothing is.

    Raises:
        InputError: The folder holds something else, or another version's.
    """
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        # What a killed writer leaves, or another is writing just now, has a hidden name.
        if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
            raise InputError(f"{folder} holds files, but no store of {what}: name another folder") from None
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / name} cannot be read ({error}): remove the folder") from error
    if not isinstance(content, dict) or content.get("format") != version:
        raise InputError(f"{folder} was written by another version of Tutelage: remove it, or name another")
    return content


def agree(folder: Path, own: Mapping[str, Any], asked: Mapping[str, Any], what: str) -> None:
    """Refuse a store of something else.

    Raises:
        InputError: Says what differs.
    """
    other = [name for name in asked if own.get(name) != asked[name]]
    if other:
        said = ", ".join(_difference(name, own.get(name), asked[name]) for name in other)
        raise InputError(
            f"the {what} stored in {folder} are not those that are needed: {said}. "
            "Name another folder, or remove this one to have it written anew"
        )


def _difference(name: str, own: Any, asked: Any) -> str:
    # Two fingerprints tell a reader nothing but that they differ.
    if isinstance(own, str) and len(own) == 64:
        return f"they are of {'other' if name == 'samples' else 'another'} {name}"
    return f"{name} is {json.dumps(own)} there and {json.dumps(asked)} here"


def _sum(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
