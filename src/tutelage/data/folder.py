"""Images in folders, one a class."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tutelage.data.arrow import Row, identity, store
from tutelage.data.faults import Faults
from tutelage.data.files import Files
from tutelage.data.pictures import Pictures, UnreadableError, frame, readable
from tutelage.data.pool import digest
from tutelage.data.splits import Splits
from tutelage.recipe.errors import InputError, nearest
from tutelage.recipe.registry import component

_PARTS = {"train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}
_AT_ONCE = 256


@component("data", "folder")
@dataclass(frozen=True, kw_only=True)
class Folder(Files):
    """Image files, in one folder for each class: ``[channels, size, size]``, pixels in [0, 1] before normalisation.

    Either ``root/class/*.png`` (or jpg, bmp, gif, webp, tif, ppm, in subfolders too), divided here; or
    ``root/train/class/*`` with ``root/val`` (or ``validation``) and ``root/test`` beside it, each optional. Every
    image is decoded once to find those that cannot be, which the cache remembers; the files stay where they are.

    Args:
        path: The root folder.
        size: Pixels to resize to: one number, or ``[height, width]``; proportions are not kept. ``null`` for images
            that all have one size.
        channels: 1 for grey, 3 for colour.
    """

    path: str
    size: int | list[int] | None = None
    channels: Literal[1, 3] = 3

    def load(self, seed: int) -> Splits:
        """List, inspect and divide the images.

        Args:
            seed: The run's seed, used only when ``split_seed`` is ``None``.

        Raises:
            InputError: No such folder, no classes or images in it, images that cannot be read or differ in size.
        """
        root = Path(self.path).expanduser()
        if not root.is_dir():
            beside = [p.name for p in root.parent.iterdir() if p.is_dir()] if root.parent.is_dir() else []
            raise InputError(f"data.path: there is no folder {root}. {nearest(root.name, beside)}")
        listed = _listing(root)
        if not listed:
            raise InputError(
                f"{root} has no images in folders of classes: expected {root.name}/cat/1.png, or "
                f"{root.name}/train/cat/1.png"
            )
        pictures = Pictures(self.channels, frame(self.size))
        reading = {"data": "folder", "size": pictures.size, "channels": self.channels}
        key = identity([file for file, _, _ in listed], {**reading, "root": str(root.resolve())})
        faults = Faults(self.on_bad)
        kept = store(key, _rows(root, listed, pictures, faults), faults)
        # The place of the files is part of the cached paths, but no part of what the data is.
        mark = identity([file for file, _, _ in listed], reading)
        return self.splits(kept, pictures, key=mark, seed=seed, about={**reading, "path": str(root)})


def _listing(root: Path) -> list[tuple[Path, str, int]]:
    """(file, class, part) of every file, sorted."""
    folders = _folders(root)
    sides = [f for f in folders if f.name.lower() in _PARTS]
    if not any(f.name.lower() == "train" for f in sides):
        sides = []
    elif len(sides) < len(folders):
        other = next(f.name for f in folders if f not in sides)
        raise InputError(f"{root} has both 'train' and '{other}': expected train, validation and test, or classes only")
    out: list[tuple[Path, str, int]] = []
    for top, part in [(side, _PARTS[side.name.lower()]) for side in sides] or [(root, 0)]:
        for kind in _folders(top):
            for place, names, files in os.walk(kind):
                names.sort()
                out += [(Path(place) / name, kind.name, part) for name in sorted(files) if not name.startswith(".")]
    return out


def _folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))


def _rows(root: Path, listed: list[tuple[Path, str, int]], pictures: Pictures, faults: Faults) -> Iterator[Row]:
    """Rows of the images that can be used; payloads are absolute paths."""
    first: tuple[str, tuple[int, ...]] | None = None
    for at in range(0, len(listed), _AT_ONCE):
        chunk = listed[at : at + _AT_ONCE]
        wanted = [file for file, _, _ in chunk if readable(file)]
        decoded = dict(zip(wanted, pictures.try_all([str(file) for file in wanted]), strict=True))
        for file, kind, part in chunk:
            where = str(file.relative_to(root))
            pixels = decoded.get(file)
            if pixels is None:
                faults.add(where, "not an image by its name")
            elif isinstance(pixels, UnreadableError):
                faults.add(where, str(pixels))
            else:
                first = first or (where, pixels.shape)
                check_shape(first, where, pixels.shape)
                yield Row(str(file.resolve()), kind, part, digest(pixels.tobytes()))


def check_shape(first: tuple[str, tuple[int, ...]], where: str, shape: tuple[int, ...]) -> None:
    """Refuse images of different sizes that nothing resizes.

    Raises:
        InputError: The shapes differ.
    """
    if shape != first[1]:
        (h1, w1), (h2, w2) = first[1][1:], shape[1:]
        raise InputError(
            f"images differ in size: {first[0]} is {h1}x{w1}, {where} is {h2}x{w2}; resize them with "
            f"data.size={min(h1, w1)}"
        )
