"""Tables of features, or of images, with a column of labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tutelage.data.arrow import Row, identity, pyarrow, store
from tutelage.data.faults import Faults
from tutelage.data.files import Files, check_labels
from tutelage.data.folder import check_shape
from tutelage.data.pictures import Pictures, UnreadableError, frame
from tutelage.data.pool import digest
from tutelage.data.splits import Splits
from tutelage.data.tabular import Block, blocks, declared_classes, heading, is_parquet, locate
from tutelage.recipe.errors import InputError, nearest
from tutelage.recipe.registry import component


@component("data", "table")
@dataclass(frozen=True, kw_only=True)
class Table(Files):
    """Rows of CSV or Parquet files: numeric features ``[features]``, or images ``[channels, height, width]``.

    A column of images holds files' bytes, or ``{bytes, path}`` as Hugging Face ``datasets`` writes it; pixels are in
    [0, 1] before normalisation. Labels may be words or whole numbers; classes are the distinct ones, sorted, unless the
    file declares their names. Files are read once, in pieces, into a memory-mapped cache, so nothing has to fit in
    memory.

    Args:
        path: Training data: a file, a folder of them, or a pattern such as ``parts/*.parquet``.
        test_path: Test data, likewise; ``null`` to keep a fraction of the training data.
        validation_path: Validation data, likewise.
        label: The column of labels.
        features: Columns to use, in this order; ``null`` for all numeric ones. Not for images.
        image: The column of images; ``null`` to find it by its type (Parquet), or for a table of features.
        size: Pixels to resize images to: one number, or ``[height, width]``; ``null`` for images that all have one
            size.
        channels: 1 for grey images, 3 for colour.
    """

    path: str
    test_path: str | None = None
    validation_path: str | None = None
    label: str = "label"
    features: list[str] | None = None
    image: str | None = None
    size: int | list[int] | None = None
    channels: Literal[1, 3] = 3

    def load(self, seed: int) -> Splits:
        """Inspect and divide the rows.

        Args:
            seed: The run's seed, used only when ``split_seed`` is ``None``.

        Raises:
            InputError: A file or column is missing, rows cannot be used, or there is nothing to tell apart.
        """
        named = (("path", self.path), ("validation_path", self.validation_path), ("test_path", self.test_path))
        files = [(f, part) for part, (key, path) in enumerate(named) if path is not None for f in locate(path, key)]
        first = files[0][0]
        columns = heading(first)
        _has(first, columns, self.label, "label")
        image = self._image_column(first, columns)
        chosen, left = ([image], []) if image else self._feature_columns(first, columns)
        for file, _ in files[1:]:
            for name in (self.label, *chosen):
                _has(file, heading(file), name, "label" if name == self.label else "features")
        pictures = Pictures(self.channels, frame(self.size)) if image else None
        reading: dict[str, Any] = {
            "data": "table",
            "label": self.label,
            "columns": chosen,
            "parts": [part for _, part in files],
        }
        if pictures:
            reading |= {"size": pictures.size, "channels": self.channels}
        key = identity([file for file, _ in files], reading)
        faults = Faults(self.on_bad)
        declared = declared_classes(first, self.label)
        reader = _Reader(self.label, chosen, pictures, declared, faults)
        kept = store(key, reader.rows(files), faults, names=declared or None)
        check_labels(len(kept.labels), len(kept.names), self.label, columns)
        about = {**reading, "files": [str(file) for file, _ in files], "columns_left_out": left}
        return self.splits(kept, pictures, key=key, seed=seed, about=about)

    def _image_column(self, file: Path, columns: Sequence[str]) -> str | None:
        if self.image is not None:
            _has(file, columns, self.image, "image")
            if not is_parquet(file):
                raise InputError(
                    f"data.image: {file} is no Parquet file, and text holds no images; use 'folder' for image files"
                )
            return self.image
        if self.features is not None or not is_parquet(file):
            return None
        pa = pyarrow()
        kinds = _kinds(file)
        found = [n for n in columns if pa.types.is_struct(kinds[n]) and kinds[n].get_field_index("bytes") >= 0]
        return found[0] if len(found) == 1 else None

    def _feature_columns(self, file: Path, columns: Sequence[str]) -> tuple[list[str], list[str]]:
        """Columns of features, and those left out because they are not numbers."""
        others = [name for name in columns if name != self.label]
        if self.features is not None:
            if self.label in self.features:
                raise InputError(f"data.features names the label '{self.label}', which would give the answer away")
            for name in self.features:
                _has(file, columns, name, "features")
            chosen = list(dict.fromkeys(self.features))
        else:
            numeric = _numeric(file, others)
            chosen = [name for name in others if name in numeric]
        if not chosen:
            raise InputError(
                f"{file} has no numeric column beside '{self.label}': name them in data.features. {nearest('', others)}"
            )
        return chosen, [name for name in others if name not in chosen]


def _has(file: Path, columns: Sequence[str], name: str, key: str) -> None:
    if name not in columns:
        raise InputError(f"data.{key}: {file} has no column '{name}'. {nearest(name, columns)}")


def _kinds(file: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq

    return {field.name: field.type for field in pq.read_schema(file)}


def _numeric(file: Path, names: Sequence[str]) -> set[str]:
    """Columns of numbers: by type in Parquet; in CSV those where at least half of the first values are."""
    pa = pyarrow()
    if is_parquet(file):
        kinds = _kinds(file)
        tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
        return {name for name in names if any(test(kinds[name]) for test in tests)}
    head = next(iter(blocks(file, names, Faults("skip"))), None)
    out = set()
    for name in names if head else ():
        values = [v for v in head.columns[name][:1000].to_pylist() if v is not None] if head else []
        if 2 * sum(not math.isnan(_number(v)) for v in values) >= max(len(values), 1):
            out.add(name)
    return out


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


@dataclass(frozen=True)
class _Reader:
    """Turns blocks of columns into inspected rows."""

    label: str
    columns: list[str]
    pictures: Pictures | None
    declared: tuple[str, ...]
    faults: Faults

    def rows(self, files: Sequence[tuple[Path, int]]) -> Iterator[Row]:
        first: list[tuple[str, tuple[int, ...]]] = []
        for file, part in files:
            for block in blocks(file, list(dict.fromkeys([self.label, *self.columns])), self.faults):
                where = [f"{file.name} row {row}" for row in block.rows]
                labels = [self._label(value) for value in block.columns[self.label].to_pylist()]
                read = self._images(block, where, file, first) if self.pictures else self._features(block)
                for place, (name, wrong), (payload, digested) in zip(where, labels, read, strict=True):
                    if wrong or isinstance(payload, UnreadableError):
                        self.faults.add(place, wrong or str(payload))
                    else:
                        yield Row(payload, name, part, digested)

    def _label(self, value: Any) -> tuple[str, str]:
        """The label as text, or what is wrong with it."""
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            return "", f"'{self.label}' is missing"
        if isinstance(value, float):
            if not value.is_integer():
                return "", f"'{self.label}' is {value}: a class is a word or a whole number"
            value = int(value)
        text = str(value).strip()
        if self.declared:
            if isinstance(value, int) and not 0 <= value < len(self.declared):
                return "", f"'{self.label}' is {value}, outside 0..{len(self.declared) - 1}"
            if not isinstance(value, int) and text not in self.declared:
                return "", f"'{self.label}' is '{text}'. {nearest(text, self.declared)}"
            text = self.declared[value] if isinstance(value, int) else text
        return text, ""

    def _features(self, block: Block) -> Iterator[tuple[Any, int]]:
        """float32 features of each row, or what is wrong with them."""
        values = [block.columns[name].to_pylist() for name in self.columns]
        matrix = np.array([[_number(v) for v in column] for column in values], dtype=np.float64).T.reshape(
            len(block.rows), -1
        )
        with np.errstate(over="ignore"):
            matrix = matrix.astype(np.float32)
        for at, row in enumerate(matrix):
            bad = np.flatnonzero(~np.isfinite(row))
            if len(bad):
                name, value = self.columns[bad[0]], values[bad[0]][at]
                missing = value is None or (isinstance(value, float) and math.isnan(value))
                yield (
                    UnreadableError(
                        f"feature '{name}' is {'missing' if missing else f'no finite number ({str(value)[:40]!r})'}"
                    ),
                    0,
                )
            else:
                yield row, digest(row.tobytes())

    def _images(
        self, block: Block, where: list[str], file: Path, first: list[tuple[str, tuple[int, ...]]]
    ) -> Iterator[tuple[Any, int]]:
        """Bytes of each row's image, or what is wrong with it."""
        assert self.pictures is not None
        sources = [_bytes(value, file) for value in block.columns[self.columns[0]].to_pylist()]
        wanted = [source for source in sources if isinstance(source, bytes)]
        decoded = iter(self.pictures.try_all(list(wanted)))
        for place, source in zip(where, sources, strict=True):
            pixels = next(decoded) if isinstance(source, bytes) else source
            if isinstance(pixels, UnreadableError):
                yield pixels, 0
                continue
            first[:] = first or [(place, pixels.shape)]
            check_shape(first[0], place, pixels.shape)
            yield source, digest(pixels.tobytes())


def _bytes(value: Any, file: Path) -> bytes | UnreadableError:
    """An image file's bytes from a cell."""
    if isinstance(value, dict):
        if value.get("bytes") is None and value.get("path"):
            place = file.parent / value["path"]
            return place.read_bytes() if place.is_file() else UnreadableError(f"no image file {place}")
        value = value.get("bytes")
    if isinstance(value, bytes) and value:
        return value
    return UnreadableError(
        "the image is missing" if value is None or value == b"" else f"no image but {type(value).__name__}"
    )
