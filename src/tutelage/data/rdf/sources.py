"""Files of triples, read as a stream: RDF's own formats, tables, GraphML and OBO."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal, cast

from pyoxigraph import Literal as Value
from pyoxigraph import NamedNode, RdfFormat, Store, parse

from tutelage.data.rdf.terms import NAMES, PREFIXES, Prefixes, named
from tutelage.recipe.errors import InputError, nearest

OnBad = Literal["refuse", "skip"]
Progress = Callable[[int], None]

RDF_FORMATS = {
    "ttl": RdfFormat.TURTLE,
    "nt": RdfFormat.N_TRIPLES,
    "rdf": RdfFormat.RDF_XML,
    "jsonld": RdfFormat.JSON_LD,
}
_ENDINGS = {
    **{name: name for name in (*RDF_FORMATS, "obo", "tsv", "graphml")},
    "turtle": "ttl",
    "ntriples": "nt",
    "xml": "rdf",
    "owl": "rdf",
    "json": "jsonld",
    "txt": "tsv",
}
_LINES = ("nt", "tsv")
_SHOWN = 3
_CHUNK = 1 << 20


class Source:
    """A file of triples.

    Args:
        path: UTF-8; ``.gz`` is unpacked on the way.
        format: Of the file; by its ending where it is not given.
        base: Namespace of plain names in tables and GraphML, and what relative IRIs are relative to.
        on_bad: Whether a line that is no triple is an error, or left out and counted.
        prefixes: For CURIEs in tables.
        progress: Told how many bytes of the file have been read.

    Raises:
        InputError: There is no such file, or its format is unknown.
    """

    def __init__(
        self,
        path: Path,
        *,
        format: str | None = None,
        base: str = NAMES,
        on_bad: OnBad = "refuse",
        prefixes: Prefixes | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.path, self.name, self.base, self.on_bad = path, path.name, base, on_bad
        self.curies = prefixes or Prefixes()
        self.progress = progress
        self.warnings: list[str] = []
        self.bad = 0
        self._examples: list[str] = []
        self.prefixes: dict[str, str] = {}
        if not path.is_file():
            raise InputError(f"there is no file {path}")
        ending = (format or (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lstrip(".")).lower()
        if ending not in _ENDINGS:
            known = ", ".join(sorted({*RDF_FORMATS, "obo", "tsv", "graphml"}))
            raise InputError(
                f"{path}: the format {ending!r} is unknown. {nearest(ending, _ENDINGS)} Known are: {known}"
            )
        self.format = _ENDINGS[ending]
        if on_bad == "skip" and self.format not in _LINES:
            raise InputError(
                f"{path}: lines can be left out of {' and '.join(_LINES)} files only, not of {self.format}"
            )

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size

    def into(self, store: Store) -> None:
        """Read into a store on disk or in memory.

        Raises:
            InputError: A line is no triple; the text has its number.
        """
        format = RDF_FORMATS.get(self.format, RdfFormat.N_TRIPLES)
        with self._opened() as stream:
            data = self._translated(stream)
            try:
                store.bulk_load(data, format, base_iri=self._base_iri())
            except SyntaxError as error:
                raise self._refused(error) from error
        self._told()

    def lines(self, out: IO[bytes]) -> None:
        """Write as N-Triples."""
        from pyoxigraph import serialize

        format = RDF_FORMATS.get(self.format, RdfFormat.N_TRIPLES)
        with self._opened() as stream:
            try:
                found = parse(self._translated(stream), format, base_iri=self._base_iri(), without_named_graphs=True)
                serialize((q.triple for q in found), out, RdfFormat.N_TRIPLES)
            except SyntaxError as error:
                raise self._refused(error) from error
        self._told()

    def _base_iri(self) -> str | None:
        return None if self.format in ("nt", "tsv", "obo", "graphml") else self.base if ":" in self.base else None

    def _opened(self) -> IO[bytes]:
        raw = cast(IO[bytes], _Counted(self.path, self.progress))
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if self.path.suffix == ".gz" else raw

    def _translated(self, stream: IO[bytes]) -> IO[bytes]:
        if self.format == "tsv":
            return cast(IO[bytes], Pieces(self._table(stream)))
        if self.format == "graphml":
            from tutelage.data.rdf.graphml import read_graphml

            return cast(IO[bytes], Pieces(read_graphml(stream, self.base, self.path)))
        if self.format == "obo":
            from tutelage.data.rdf.obo import read_obo

            return cast(IO[bytes], Pieces(read_obo(stream, self)))
        if self.format == "nt" and self.on_bad == "skip":
            return cast(IO[bytes], Pieces(self._sifted(stream)))
        if self.format == "ttl":
            self._declared()
        return stream

    def _declared(self) -> None:
        with (
            suppress(SyntaxError),
            cast(IO[bytes], gzip.open(self.path)) if self.path.suffix == ".gz" else self.path.open("rb") as stream,
        ):
            found = parse(stream, RdfFormat.TURTLE, base_iri=self._base_iri())
            next(found, None)
            for name, space in found.prefixes.items():
                if name and PREFIXES.get(name) != space:
                    self.prefixes[name] = space

    def _refused(self, error: SyntaxError) -> InputError:
        line = f", line {error.lineno}" if error.lineno and self.format not in ("tsv", "graphml", "obo") else ""
        said = _reason(error)
        more = " `--bad skip` leaves such lines out." if self.format in _LINES else ""
        return InputError(f"{self.path}{line}: no {self.format}: {said}.{more} Nothing was loaded")

    def skip(self, line: int, why: str) -> None:
        """Refuse a line, or count it."""
        if self.on_bad == "refuse":
            raise InputError(f"{self.path}, line {line}: {why}. `--bad skip` leaves such lines out. Nothing was loaded")
        self.bad += 1
        if len(self._examples) < _SHOWN:
            self._examples.append(f"line {line}: {why}")

    def _told(self) -> None:
        if self.bad:
            lines = "line was" if self.bad == 1 else "lines were"
            more = f"; and {self.bad - _SHOWN} more" if self.bad > _SHOWN else ""
            self.warnings.append(f"{self.name}: {self.bad} {lines} left out ({'; '.join(self._examples)}{more})")

    # ------------------------------------------------------------------ lines

    def _sifted(self, stream: IO[bytes]) -> Iterator[bytes]:
        """N-Triples without what is none, a piece at a time."""
        number = 0
        for piece in _whole_lines(stream):
            for good, bad in _parted(piece):
                if good:
                    number += good.count(b"\n")
                    yield good
                if bad is not None:
                    number += 1
                    self.skip(number, bad)

    def _table(self, stream: IO[bytes]) -> Iterator[bytes]:
        """Columns of subject, predicate and object as N-Triples."""
        known: dict[bytes, bytes] = {}
        values: dict[bytes, bytes] = {}
        number = 0
        for piece in _whole_lines(stream):
            out = bytearray()
            for line in piece.splitlines():
                number += 1
                if not line or line.startswith(b"# "):
                    continue
                cells = line.split(b"\t")
                if len(cells) != 3 or not all(cells):
                    found = "cell" if len(cells) == 1 else "cells"
                    self.skip(number, f"{len(cells)} {found} where 3 with text, kept apart by tabs, were expected")
                    continue
                try:
                    a, b, c = cells
                    subject = known.get(a) or known.setdefault(a, self._node(a))
                    predicate = known.get(b) or known.setdefault(b, self._node(b))
                    object = values.get(c) or values.setdefault(c, self._value(c))
                except (InputError, ValueError) as error:
                    self.skip(number, str(error))
                    continue
                if predicate.startswith(b"_:"):
                    self.skip(number, "a blank node is no predicate")
                    continue
                out += subject + b" " + predicate + b" " + object + b" .\n"
                if len(known) > 1 << 20:
                    known.clear()
                if len(values) > 1 << 20:
                    values.clear()
            yield bytes(out)

    def _node(self, cell: bytes) -> bytes:
        text = cell.decode().strip()
        if text.startswith("<") and text.endswith(">"):
            return str(NamedNode(text[1:-1])).encode()
        if text.startswith("_:"):
            return text.encode()
        if text.startswith(("http://", "https://", "urn:")):
            return str(NamedNode(text)).encode()
        prefix, colon, local = text.partition(":")
        if colon and " " not in text and local and prefix in self.curies.spaces:
            return str(NamedNode(self.curies.spaces[prefix] + local)).encode()
        # Of text with a colon, whose prefix nobody knows, the whole is the name: nothing is lost.
        return str(NamedNode(named(text, self.base))).encode()

    def _value(self, cell: bytes) -> bytes:
        if not cell.startswith(b'"'):
            return self._node(cell)
        text = cell.decode()
        try:
            return str(next(iter(parse(f"<a:a> <a:a> {text} .", RdfFormat.N_TRIPLES))).object).encode()
        except SyntaxError:
            if len(text) > 1 and text.endswith('"'):
                return str(Value(text[1:-1])).encode()
            raise InputError(f"{text[:60]!r} is no literal of N-Triples") from None


class _Counted(io.RawIOBase):
    """A file that tells how far it has been read."""

    def __init__(self, path: Path, progress: Progress | None) -> None:
        self._file, self._progress, self._done = path.open("rb", buffering=0), progress, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        count: int = self._file.readinto(buffer)  # type: ignore[arg-type]
        self._done += count
        if self._progress is not None:
            self._progress(self._done)
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class Pieces(io.RawIOBase):
    """Pieces of bytes as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, b""

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """As of a file."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        if size < 0 or size >= len(self._rest):
            out, self._rest = self._rest, b""
        else:
            out, self._rest = self._rest[:size], self._rest[size:]
        return out

    def readinto(self, buffer: object) -> int:
        """As of a file."""
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


def _whole_lines(stream: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while data := stream.read(_CHUNK):
        data = rest + data
        end = data.rfind(b"\n") + 1
        rest = data[end:]
        if end:
            yield data[:end]
    if rest:
        yield rest + b"\n"


def _parted(piece: bytes) -> Iterator[tuple[bytes, str | None]]:
    """Good lines together, and after each such part why the line that follows is bad, if there is one."""
    while piece:
        try:
            for _ in parse(piece, RdfFormat.N_TRIPLES):
                pass
        except SyntaxError as error:
            lines = piece.split(b"\n")
            # An error that spans lines is told at its end: the first line that is bad alone is the culprit.
            last = error.lineno or 1
            place = next((i for i in range(max(0, last - 3), last) if _bad(lines[i])), last - 1)
            good = b"".join(line + b"\n" for line in lines[:place])
            yield good, _bad(lines[place]) or _reason(error)
            piece = b"\n".join(lines[place + 1 :])
        else:
            yield piece, None
            return


def _bad(line: bytes) -> str | None:
    try:
        for _ in parse(line, RdfFormat.N_TRIPLES):
            pass
    except SyntaxError as error:
        return _reason(error)
    return None


_WHERE = re.compile(r"Parser error (at|between) line \d+ .*?: ")


def _reason(error: SyntaxError) -> str:
    return _WHERE.sub("", str(error.msg))
