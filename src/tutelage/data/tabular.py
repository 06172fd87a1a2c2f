"""CSV and Parquet files as batches of columns with row numbers, in bounded memory."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tutelage.data.arrow import pyarrow
from tutelage.data.faults import Faults
from tutelage.recipe.errors import InputError, nearest

_CSV = (".csv", ".tsv", ".txt")
_PARQUET = (".parquet", ".pq")
_EMPTY = ["", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "none", "?"]


class Block(NamedTuple):
    """Some rows of a file.

    Args:
        columns: Arrow arrays by name, of one length.
        rows: Number of each row: lines of records for CSV, the heading being 1; from 1 for Parquet.
    """

    columns: dict[str, Any]
    rows: list[int]


def locate(path: str, key: str) -> list[Path]:
    """The table files that a path stands for: a file, all tables of a folder, or a pattern with ``*``.

    Raises:
        InputError: There is none, or kinds are mixed.
    """
    place = Path(path).expanduser()
    if any(c in path for c in "*?["):
        anchor = Path(place.anchor) if place.is_absolute() else Path()
        found = sorted(f for f in anchor.glob(str(place.relative_to(anchor))) if f.is_file())
    elif place.is_dir():
        found = sorted(f for f in place.iterdir() if f.suffix.lower() in _CSV[:2] + _PARQUET)
    else:
        found = [place] if place.is_file() else []
    if not found:
        parent = place if place.is_dir() else place.parent
        beside = [f.name for f in parent.iterdir() if f.suffix.lower() in _CSV + _PARQUET] if parent.is_dir() else []
        raise InputError(
            f"data.{key}: there is no CSV or Parquet file at {path}. {nearest(place.name, beside)}".strip()
        )
    wrong = [f for f in found if f.suffix.lower() not in _CSV + _PARQUET]
    if wrong:
        raise InputError(f"data.{key}: {wrong[0]} is neither CSV (.csv, .tsv, .txt) nor Parquet (.parquet)")
    return found


def is_parquet(path: Path) -> bool:
    """Whether a file's name is that of a Parquet file."""
    return path.suffix.lower() in _PARQUET


def heading(path: Path) -> tuple[str, ...]:
    """Names of the columns.

    Raises:
        InputError: The file is empty or damaged, or two columns have one name.
    """
    if is_parquet(path):
        names = tuple(_parquet(path).schema_arrow.names)
    else:
        names = tuple(next(csv.reader([_first_line(path)], delimiter=delimiter(path)), []))
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise InputError(f"{path} has two columns named '{twice}'")
    return names


def declared_classes(path: Path, column: str) -> tuple[str, ...]:
    """Class names that a Parquet file of Hugging Face ``datasets`` declares for a column; empty where it does not."""
    metadata = _parquet(path).schema_arrow.metadata or {} if is_parquet(path) else {}
    try:
        feature = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"][column]
        return tuple(str(name) for name in feature["names"]) if feature.get("_type") == "ClassLabel" else ()
    except (ValueError, KeyError, TypeError, AttributeError):
        return ()


def blocks(path: Path, columns: Sequence[str], faults: Faults) -> Iterator[Block]:
    """A file's rows. Columns of CSV are text, missing values null; records of a wrong length go to ``faults``.

    Raises:
        InputError: The file is damaged or not UTF-8.
    """
    pa = pyarrow()
    try:
        yield from _parquet_blocks(path, columns) if is_parquet(path) else _csv_blocks(path, columns, faults)
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).split("\n")[0][:160]
        raise InputError(
            f"{path} cannot be read as {'Parquet' if is_parquet(path) else 'CSV in UTF-8'}: {reason}"
        ) from error


def delimiter(path: Path) -> str:
    """What separates the columns of a CSV file: whichever of comma, semicolon, tab and bar its heading has most of."""
    line = _first_line(path)
    return max(",;\t|", key=line.count)


def _first_line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig") as file:
            line = file.readline(1 << 20).rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}): convert it, e.g. with iconv"
        ) from error
    if not line.strip():
        raise InputError(f"{path} is empty or does not start with the names of its columns")
    return line


def _parquet(path: Path) -> Any:
    pa = pyarrow()
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} is not a Parquet file: {str(error)[:120]}") from error


def _parquet_blocks(path: Path, columns: Sequence[str]) -> Iterator[Block]:
    start = 1
    for batch in _parquet(path).iter_batches(batch_size=1024, columns=list(columns)):
        yield Block({name: batch.column(name) for name in columns}, list(range(start, start + len(batch))))
        start += len(batch)


def _csv_blocks(path: Path, columns: Sequence[str], faults: Faults) -> Iterator[Block]:
    pa = pyarrow()
    import pyarrow.csv as pc

    short: set[int] = set()

    def wrong_length(row: Any) -> str:
        # One thread reads, so that the number is known.
        short.add(row.number)
        faults.add(f"{path.name} row {row.number}", f"{row.actual_columns} values, expected {row.expected_columns}")
        return "skip"

    reader = pc.open_csv(
        path,
        read_options=pc.ReadOptions(use_threads=False, block_size=1 << 20),
        parse_options=pc.ParseOptions(
            delimiter=delimiter(path), newlines_in_values=True, invalid_row_handler=wrong_length
        ),
        convert_options=pc.ConvertOptions(
            column_types={name: pa.string() for name in heading(path)},
            include_columns=list(columns),
            strings_can_be_null=True,
            null_values=_EMPTY,
        ),
    )
    number = 1
    for batch in reader:
        rows: list[int] = []
        while len(rows) < len(batch):
            number += 1
            if number not in short:
                rows.append(number)
        yield Block({name: batch.column(name) for name in columns}, rows)
