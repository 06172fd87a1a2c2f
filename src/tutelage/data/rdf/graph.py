"""What a graph can do, wherever it is kept; and the one that is kept in memory."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Literal

from pyoxigraph import (
    BlankNode,
    DefaultGraph,
    NamedNode,
    Quad,
    QueryBoolean,
    QuerySolutions,
    RdfFormat,
    Store,
    Triple,
)
from pyoxigraph import Literal as Value

from tutelage.data.rdf.journal import Entry, Kind, Stamp
from tutelage.data.rdf.terms import Prefixes, Subject, Term
from tutelage.recipe.errors import InputError

DEFAULT = DefaultGraph()
Cell = Mapping[str, str] | None


@dataclass
class Answer:
    """What a query found.

    Args:
        kind: ``rows`` of SELECT, a ``boolean`` of ASK, ``triples`` of CONSTRUCT and DESCRIBE.
        variables: Names of the columns.
        rows: Cells as in SPARQL's JSON results, ``None`` where a variable is not bound.
        boolean: The answer to ASK.
        cut: Whether there were more rows than asked for.
    """

    kind: Literal["rows", "boolean", "triples"]
    variables: tuple[str, ...] = ()
    rows: list[tuple[Cell, ...]] = field(default_factory=list)
    boolean: bool | None = None
    cut: bool = False


class Graph(ABC):
    """Triples that can be matched, changed in transactions, asked in SPARQL, loaded and written."""

    name: str
    prefixes: Prefixes
    blank_nodes: bool = True
    """Whether a blank node that was found can be asked about again."""

    @abstractmethod
    def match(
        self, subject: Subject | None = None, predicate: NamedNode | None = None, object: Term | None = None
    ) -> Iterator[Triple]:
        """Triples that fit; ``None`` fits all."""

    def has(self, triple: Triple) -> bool:
        """Whether a triple is there."""
        return next(self.match(triple.subject, triple.predicate, triple.object), None) is not None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """The journal, oldest first."""

    @abstractmethod
    def last(self) -> int:
        """Number of the last entry."""

    @abstractmethod
    def write(self, entry: Entry, removed: Sequence[Triple], added: Sequence[Triple]) -> None:
        """Change triples and add to the journal, both or neither."""

    @abstractmethod
    def query(self, text: str, *, seconds: float, rows: int) -> Answer:
        """Ask in SPARQL; a query that takes longer is stopped.

        Raises:
            InputError: It is no query, or took too long.
        """

    @abstractmethod
    def update(self, text: str, *, seconds: float, stamp: Stamp) -> Entry:
        """Change by SPARQL; the journal keeps the text, but it cannot be undone."""

    @abstractmethod
    def load(self, sources: Sequence[Any], stamp: Stamp) -> int:
        """Take in opened files, all or none; returns by how many triples the graph grew."""

    @abstractmethod
    def dump(self, out: IO[bytes], format: RdfFormat) -> None:
        """Write all triples."""

    def commit(
        self,
        removed: Iterable[Triple],
        added: Iterable[Triple],
        *,
        commands: Sequence[str],
        stamp: Stamp,
        kind: Kind = "change",
        undoes: int | None = None,
        note: str = "",
    ) -> Entry:
        """One transaction."""
        from tutelage.data.rdf.terms import to_lines

        gone, come = list(removed), list(added)
        entry = Entry(
            id=self.last() + 1,
            kind=kind,
            author=stamp.author,
            time=stamp.time,
            commands=tuple(commands),
            removed=tuple(to_lines(gone)),
            added=tuple(to_lines(come)),
            undoes=undoes,
            note=note,
        )
        self.write(entry, gone, come)
        return entry

    def close(self) -> None:  # noqa: B027 - most have nothing to do
        """Let others in."""

    def __enter__(self) -> Graph:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Memory(Graph):
    """A graph in memory, for small ones and for tests.

    Args:
        triples: What it begins with.
        prefixes: Its own.
        name: For messages.
    """

    def __init__(
        self, triples: Iterable[Triple] = (), prefixes: Mapping[str, str] | None = None, name: str = "the graph"
    ) -> None:
        self.name, self.prefixes = name, Prefixes(prefixes)
        self.store = Store()
        self.store.extend(quads(triples))
        self._entries: list[Entry] = []

    def match(
        self, subject: Subject | None = None, predicate: NamedNode | None = None, object: Term | None = None
    ) -> Iterator[Triple]:
        """Triples that fit; ``None`` fits all."""
        return (q.triple for q in self.store.quads_for_pattern(subject, predicate, object, DEFAULT))

    def __len__(self) -> int:
        return len(self.store)

    def entries(self) -> Iterator[Entry]:
        """The journal, oldest first."""
        return iter(list(self._entries))

    def last(self) -> int:
        """Number of the last entry."""
        return len(self._entries)

    def write(self, entry: Entry, removed: Sequence[Triple], added: Sequence[Triple]) -> None:
        """Change triples and add to the journal."""
        for quad in quads(removed):
            self.store.remove(quad)
        self.store.extend(quads(added))
        self._entries.append(entry)

    def query(self, text: str, *, seconds: float = 0, rows: int = 10_000) -> Answer:
        """Ask in SPARQL; what is in memory is not guarded against queries that never end."""
        return ask(self.store, text, self.prefixes, rows)

    def update(self, text: str, *, seconds: float = 0, stamp: Stamp) -> Entry:
        """Change by SPARQL."""
        try:
            self.store.update(text, prefixes=self.prefixes.spaces)
        except SyntaxError as error:
            raise InputError(f"no SPARQL update: {error}") from error
        return self.commit((), (), commands=(text,), stamp=stamp, kind="update")

    def load(self, sources: Sequence[Any], stamp: Stamp) -> int:
        """Take in opened files."""
        fresh, before = Store(), len(self.store)
        for source in sources:
            source.into(fresh)
        self.store.extend(fresh.quads_for_pattern(None, None, None, DEFAULT))
        grown = len(self.store) - before
        self.commit((), (), commands=[s.name for s in sources], stamp=stamp, kind="load", note=f"{grown} triples")
        return grown

    def dump(self, out: IO[bytes], format: RdfFormat) -> None:
        """Write all triples."""
        self.store.dump(out, format, from_graph=DEFAULT, prefixes=used(self.prefixes))


def quads(triples: Iterable[Triple]) -> Iterator[Quad]:
    """Of the default graph."""
    return (Quad(t.subject, t.predicate, t.object) for t in triples)


def used(prefixes: Prefixes) -> dict[str, str]:
    """Prefixes to write files with: one a namespace, and of those of OBO only the common one."""
    out: dict[str, str] = {}
    seen: set[str] = set()
    for name, space in {**prefixes.own, **prefixes.spaces}.items():
        if space not in seen and name and (name in prefixes.own or name in _WRITTEN) and _NAME.fullmatch(name):
            seen.add(space)
            out[name] = space
    return out


_NAME = re.compile(r"[A-Za-z][\w-]*")
_WRITTEN = {"obo", "oio", "rdf", "rdfs", "owl", "xsd", "skos", "dcterms", "name"}


def ask(store: Store, text: str, prefixes: Prefixes, rows: int) -> Answer:
    """Ask a store, as long as it takes.

    Raises:
        InputError: It is no query.
    """
    try:
        found = store.query(text, prefixes=prefixes.spaces)
    except SyntaxError as error:
        raise InputError(f"no SPARQL query: {error}") from error
    if isinstance(found, QueryBoolean):
        return Answer("boolean", boolean=bool(found))
    if isinstance(found, QuerySolutions):
        answer = Answer("rows", tuple(v.value for v in found.variables))
        for solution in found:
            if len(answer.rows) == rows:
                answer.cut = True
                break
            answer.rows.append(tuple(cell(value) for value in solution))
        return answer
    answer = Answer("triples", ("subject", "predicate", "object"))
    for triple in found:
        if len(answer.rows) == rows:
            answer.cut = True
            break
        answer.rows.append((cell(triple.subject), cell(triple.predicate), cell(triple.object)))
    return answer


def cell(term: Any) -> Cell:
    """A term as SPARQL's JSON results write it."""
    if term is None:
        return None
    if isinstance(term, NamedNode):
        return {"type": "uri", "value": term.value}
    if isinstance(term, BlankNode):
        return {"type": "bnode", "value": term.value}
    if isinstance(term, Value):
        out = {"type": "literal", "value": term.value}
        if term.language:
            out["xml:lang"] = term.language
        elif term.datatype.value != "http://www.w3.org/2001/XMLSchema#string":
            out["datatype"] = term.datatype.value
        return out
    return {"type": "triple", "value": str(term)}


def term(found: Mapping[str, Any]) -> Term:
    """A term of SPARQL's JSON results."""
    kind, value = found["type"], found["value"]
    if kind == "uri":
        return NamedNode(value)
    if kind == "bnode":
        return BlankNode(value)
    if language := found.get("xml:lang"):
        return Value(value, language=language)
    if datatype := found.get("datatype"):
        return Value(value, datatype=NamedNode(datatype))
    return Value(value)
