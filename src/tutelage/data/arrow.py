"""Rows of any number on disk: inspected once, kept in an Arrow file, fetched a batch at a time."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tutelage.data.batch import Batch
from tutelage.data.faults import Faults
from tutelage.data.pictures import Pictures, UnreadableError
from tutelage.data.splits import Indices
from tutelage.recipe.errors import InputError, RunError

PARTS = ("train", "validation", "test")
_CHUNK = 1024
_HASHED_BELOW = 64 << 20


class Row(NamedTuple):
    """One inspected sample.

    Args:
        payload: Bytes of an image file, path of one, or float32 features.
        label: Its label as found.
        part: Index into ``PARTS``.
        digest: Signed 64-bit hash of its content.
    """

    payload: bytes | str | np.ndarray[Any, Any]
    label: str
    part: int
    digest: int


class ArrowExamples:
    """Examples in a memory-mapped Arrow file: only the rows that are asked for are read and decoded.

    Args:
        path: An Arrow stream with the column ``payload``.
        rows: ``[count]`` int64 rows of it that belong to these examples; they are the samples' ids.
        labels: ``[count]`` int64.
        pictures: How to decode payloads that are images; ``None`` when they are features.
        scale: ``(factor, offset)`` that turns a stored value into an input, broadcast over a sample.
    """

    def __init__(
        self, path: Path, rows: Tensor, labels: Tensor, pictures: Pictures | None, scale: tuple[Tensor, Tensor]
    ) -> None:
        self.path, self.ids, self.labels, self.pictures, self.scale = path, rows, labels, pictures, scale
        self._table: Any = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getstate__(self) -> dict[str, Any]:
        # A worker maps the file itself instead of receiving what the parent had mapped.
        return {**self.__dict__, "_table": None}

    def raw(self, indices: Indices) -> Tensor:
        """``[batch, *input_shape]`` as stored: uint8 pixels or float32 features.

        Raises:
            RunError: An image changed or vanished since it was inspected.
        """
        if self._table is None:
            self._table = _dataset(self.path)
        rows = self.ids[torch.as_tensor(indices, dtype=torch.int64)]
        column = self._table[rows.tolist()].column("payload").combine_chunks()
        if self.pictures is None:
            return torch.from_numpy(column.flatten().to_numpy(zero_copy_only=False).copy()).view(len(rows), -1)
        try:
            return torch.from_numpy(np.stack([self.pictures.one(source) for source in column.to_pylist()]))
        except UnreadableError as error:
            raise RunError(
                f"one of the images in rows {rows.tolist()[:10]} changed since they were inspected: {error}"
            ) from error

    def fetch(self, indices: Indices) -> Batch:
        """The samples at these positions."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        factor, offset = self.scale
        inputs = self.raw(index).float().mul_(factor).add_(offset)
        return Batch(inputs, self.labels[index], self.ids[index], torch.zeros(len(index), dtype=torch.int64))

    def select(self, positions: Tensor) -> ArrowExamples:
        """Only these samples, with their ids."""
        return ArrowExamples(self.path, self.ids[positions], self.labels[positions], self.pictures, self.scale)


@dataclass(frozen=True)
class Store:
    """Inspected rows in the cache.

    Args:
        path: Arrow file of the payloads.
        labels: ``[count]`` int64 indices into ``names``.
        parts: ``[count]`` int8 indices into ``PARTS``.
        digests: ``[count]`` int64 hashes of contents.
        names: The distinct labels, sorted: as numbers where all are.
        warnings: What was left out.
    """

    path: Path
    labels: Tensor
    parts: Tensor
    digests: Tensor
    names: tuple[str, ...]
    warnings: tuple[str, ...]


def cache_folder() -> Path:
    """Where inspected data is kept: ``TUTELAGE_CACHE``, else ``tutelage`` in the user's cache folder."""
    own = os.environ.get("TUTELAGE_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tutelage"


def identity(files: Sequence[Path], about: Mapping[str, Any]) -> str:
    """SHA-256 of files and of how they are prepared.

    Up to 64 MiB in all, it is of the files' content (and names from their common folder); above, of their full paths,
    sizes and times of change.
    """
    stats = [file.stat() for file in files]
    root = os.path.commonpath([file.resolve().parent for file in files]) if files else ""
    digest = hashlib.sha256(json.dumps(dict(about), sort_keys=True, default=str).encode())
    small = sum(stat.st_size for stat in stats) <= _HASHED_BELOW
    for file, stat in zip(files, stats, strict=True):
        if small:
            digest.update(f"{os.path.relpath(file.resolve(), root)}\0".encode())
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        else:
            digest.update(f"{file.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def store(key: str, rows: Iterable[Row], faults: Faults, *, names: Sequence[str] | None = None) -> Store:
    """The inspected rows under a key, from the cache or by reading them all once.

    Args:
        key: Identity of the data and its preparation; how bad rows are treated need not be in it.
        rows: Good rows; iterating them fills ``faults``.
        faults: Where bad rows are counted.
        names: All class names in label order, where the data declares them.

    Raises:
        InputError: There are bad rows and they are refused, or there is no row.
    """
    place = cache_folder() / "rows" / key[:40]
    kept = _kept(place)
    if kept is None or (kept.warnings and faults.on_bad == "refuse"):
        # A cached store with rows left out is read again to name them in the refusal.
        _write(place, rows, faults, names)
        written = _kept(place)
        if written is None:
            raise RunError(f"the data was written to {place} and cannot be read back; is the disk full?")
        return written
    return kept


def _kept(place: Path) -> Store | None:
    """The store at a place, if it is complete."""
    try:
        facts = json.loads((place / "facts.json").read_text())
        columns = np.load(place / "columns.npz", allow_pickle=False)
        if len(_dataset(place / "rows.arrow")) != facts["rows"]:
            return None
    except (OSError, ValueError, KeyError):
        return None
    labels, parts, digests = (torch.from_numpy(columns[name]) for name in ("labels", "parts", "digests"))
    return Store(place / "rows.arrow", labels, parts, digests, tuple(facts["names"]), tuple(facts["warnings"]))


def _write(place: Path, rows: Iterable[Row], faults: Faults, declared: Sequence[str] | None) -> None:
    pa = pyarrow()
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_name(f"{place.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        found: dict[str, int] = {}
        labels: list[int] = []
        parts: list[int] = []
        digests: list[int] = []
        writer = None
        try:
            with pa.OSFile(str(beside / "rows.arrow"), "wb") as sink:
                for chunk in _chunks(rows):
                    column = _column(pa, [row.payload for row in chunk])
                    if writer is None:
                        writer = pa.ipc.new_stream(sink, pa.schema([("payload", column.type)]))
                    writer.write_batch(pa.record_batch([column], names=["payload"]))
                    labels += [found.setdefault(row.label, len(found)) for row in chunk]
                    parts += [row.part for row in chunk]
                    digests += [row.digest for row in chunk]
                if writer is not None:
                    writer.close()
        except OSError as error:
            raise RunError(
                f"the data cannot be kept in {place.parent} ({error}); set TUTELAGE_CACHE to a folder with room"
            ) from error
        warnings = faults.settle(len(labels))
        if not labels:
            raise InputError("the data has no samples")
        names = list(declared) if declared else order_names(found)
        codes = np.array([names.index(label) for label in found], dtype=np.int64)[np.array(labels)]
        np.savez(
            beside / "columns.npz", labels=codes, parts=np.array(parts, np.int8), digests=np.array(digests, np.int64)
        )
        (beside / "facts.json").write_text(json.dumps({"rows": len(labels), "names": names, "warnings": warnings}))
        shutil.rmtree(place, ignore_errors=True)
        os.replace(beside, place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def order_names(labels: Iterable[str]) -> list[str]:
    """Labels sorted, as whole numbers where all of them are: 10 comes after 9."""
    found = list(labels)
    try:
        return sorted(found, key=int)
    except ValueError:
        return sorted(found)


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _column(pa: Any, payloads: list[Any]) -> Any:
    if isinstance(payloads[0], np.ndarray):
        return pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(payloads)), len(payloads[0]))
    return pa.array(payloads, pa.large_binary() if isinstance(payloads[0], bytes) else pa.large_string())


def _dataset(path: Path) -> Any:
    pyarrow()
    from datasets import Dataset

    return Dataset.from_file(str(path)).with_format("arrow")


def pyarrow() -> Any:
    """The pyarrow package, with datasets beside it.

    Raises:
        InputError: They are not installed.
    """
    try:
        import datasets  # noqa: F401
        import pyarrow as pa
        import pyarrow.ipc
    except ImportError as error:
        raise InputError(f"reading files needs pyarrow and datasets ({error}): pip install 'tutelage[data]'") from error
    return pa
