"""A graph behind a SPARQL 1.1 endpoint; its journal is a named graph beside it."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPException, HTTPResponse
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import Request, urlopen

from pyoxigraph import BlankNode, Literal, NamedNode, RdfFormat, Triple, parse, serialize

from tutelage.data.rdf.graph import Answer, Graph, cell, term, used
from tutelage.data.rdf.journal import Entry, Stamp
from tutelage.data.rdf.terms import Prefixes, Subject, Term, to_lines
from tutelage.recipe.errors import InputError, RunError

JOURNAL = "urn:tutelage:journal"
_RESULTS, _TRIPLES = "application/sparql-results+json", "application/n-triples"


class Endpoint(Graph):
    """A graph somewhere else.

    Args:
        url: Of queries; ``.../query`` has its updates at ``.../update`` and its graphs at ``.../store``, as Oxigraph's
            and Fuseki's; any other path that ends in ``sparql`` takes both; a bare server is taken for the former.
        prefixes: To be known beside the usual ones.

    Raises:
        InputError: Nothing answers there.
    """

    blank_nodes = False

    def __init__(self, url: str, prefixes: Mapping[str, str] | None = None) -> None:
        self.name, self.prefixes = url, Prefixes(prefixes)
        parts = urlsplit(url)
        path = parts.path.rstrip("/")
        if path.endswith("/query"):
            asked, changed, stored = path, path[: -len("query")] + "update", path[: -len("query")] + "store"
        elif path.endswith("sparql"):
            asked, changed, stored = path, path, ""
        else:
            asked, changed, stored = f"{path}/query", f"{path}/update", f"{path}/store"
        at = [
            urlunsplit((parts.scheme, parts.netloc, p, parts.query, "")) if p else "" for p in (asked, changed, stored)
        ]
        self._query, self._update, self._store = at
        self.query("ASK {}", seconds=10, rows=1)

    def match(
        self, subject: Subject | None = None, predicate: NamedNode | None = None, object: Term | None = None
    ) -> Iterator[Triple]:
        """Triples that fit; ``None`` fits all."""
        asked = {"s": subject, "p": predicate, "o": object}
        if any(isinstance(value, BlankNode) for value in asked.values()):
            raise InputError(
                f"{self.name}: this change reaches into a blank node (an OWL restriction, say), and no SPARQL endpoint "
                "can be asked about one again. Change the graph in a folder and load it there"
            )
        free = [name for name, value in asked.items() if value is None]
        pattern = " ".join(f"?{name}" if value is None else str(value) for name, value in asked.items())
        text = f"SELECT {' '.join('?' + n for n in free)} WHERE {{ {pattern} }}" if free else f"ASK {{ {pattern} }}"
        answer = self.query(text, seconds=60, rows=0)
        rows: Sequence[Any] = answer.rows if free else ([()] if answer.boolean else [])
        for row in rows:
            found: dict[str, Any] = {**asked, **{n: term(c) for n, c in zip(free, row, strict=True) if c is not None}}
            yield Triple(found["s"], found["p"], found["o"])

    def __len__(self) -> int:
        row = self.query("SELECT (COUNT(*) AS ?n) WHERE { ?s ?p ?o }", seconds=600, rows=1).rows[0]
        assert row[0] is not None
        return int(row[0]["value"])

    def entries(self) -> Iterator[Entry]:
        """The journal, oldest first."""
        text = (
            f"SELECT ?n ?e WHERE {{ GRAPH <{JOURNAL}> {{ ?x <{JOURNAL}#id> ?n ; <{JOURNAL}#entry> ?e }} }} ORDER BY ?n"
        )
        for row in self.query(text, seconds=60, rows=0).rows:
            assert row[1] is not None
            yield Entry.from_json(row[1]["value"])

    def last(self) -> int:
        """Number of the last entry."""
        text = f"SELECT (MAX(?n) AS ?m) WHERE {{ GRAPH <{JOURNAL}> {{ ?x <{JOURNAL}#id> ?n }} }}"
        rows = self.query(text, seconds=60, rows=1).rows
        found = rows[0][0] if rows else None
        return int(found["value"]) if found else 0

    def write(self, entry: Entry, removed: Sequence[Triple], added: Sequence[Triple]) -> None:
        """Change triples and add to the journal in one request, which the endpoint does all or nothing of."""
        if any(isinstance(x, BlankNode) for t in removed for x in (t.subject, t.object)):
            raise InputError(f"{self.name}: blank nodes cannot be deleted through SPARQL; change the graph in a folder")
        parts = []
        if removed:
            parts.append("DELETE DATA {\n" + "\n".join(to_lines(removed)) + "\n}")
        if added:
            parts.append("INSERT DATA {\n" + "\n".join(to_lines(added)) + "\n}")
        self._send_update(" ;\n".join([*parts, self._noted(entry)]), 600)

    @staticmethod
    def _noted(entry: Entry) -> str:
        node, text = f"<{JOURNAL}#{entry.id}>", Literal(entry.to_json())
        return (
            f"INSERT DATA {{ GRAPH <{JOURNAL}> {{ {node} <{JOURNAL}#id> {entry.id} ; <{JOURNAL}#entry> {text} . }} }}"
        )

    def query(self, text: str, *, seconds: float = 30, rows: int = 10_000) -> Answer:
        """Ask in SPARQL; no longer waited for after some time."""
        accept = f"{_RESULTS}, {_TRIPLES};q=0.9"
        body, kind = self._send(self._query, self._declared(text), "application/sparql-query", seconds, accept)
        if kind.startswith(_RESULTS):
            found = json.loads(body)
            if "boolean" in found:
                return Answer("boolean", boolean=found["boolean"])
            names = tuple(found["head"]["vars"])
            cells = [tuple(row.get(name) for name in names) for row in found["results"]["bindings"]]
            return Answer("rows", names, cells[:rows] if rows else cells, cut=bool(rows) and len(cells) > rows)
        if not kind.startswith((_TRIPLES, "text/plain")):
            raise RunError(f"{self.name} answered with {kind or 'something of unknown kind'}; is it a SPARQL endpoint?")
        triples = [(cell(q.subject), cell(q.predicate), cell(q.object)) for q in parse(body, RdfFormat.N_TRIPLES)]
        return Answer(
            "triples",
            ("subject", "predicate", "object"),
            list(triples[:rows] if rows else triples),
            cut=bool(rows) and len(triples) > rows,
        )

    def update(self, text: str, *, seconds: float = 30, stamp: Stamp) -> Entry:
        """Change by SPARQL."""
        entry = Entry(self.last() + 1, "update", stamp.author, stamp.time, (text,))
        self._send_update(f"{self._declared(text)} ;\n{self._noted(entry)}", seconds)
        return entry

    def _declared(self, text: str) -> str:
        """The text with the prefixes that it uses and does not declare."""
        names = [
            n
            for n in self.prefixes.spaces
            if f"{n}:" in text and f"PREFIX {n}:" not in text.replace("prefix", "PREFIX")
        ]
        return "".join(f"PREFIX {n}: <{self.prefixes.spaces[n]}>\n" for n in names) + text

    def load(self, sources: Sequence[Any], stamp: Stamp) -> int:
        """Take in opened files, in one request."""
        before = len(self)
        with tempfile.TemporaryFile() as lines:
            for source in sources:
                source.lines(lines)
            lines.seek(0)
            if self._store:
                self._send(self._store + "?default", lines, _TRIPLES, 3600, "*/*")
            else:
                self._send_update("INSERT DATA {\n" + lines.read().decode() + "\n}", 3600)
        grown = len(self) - before
        names, note = tuple(s.name for s in sources), f"{grown} triples"
        entry = Entry(self.last() + 1, "load", stamp.author, stamp.time, names, note=note)
        self._send_update(self._noted(entry), 60)
        return grown

    def dump(self, out: IO[bytes], format: RdfFormat) -> None:
        """Write all triples."""
        text = "CONSTRUCT { ?s ?p ?o } WHERE { ?s ?p ?o }"
        body, _ = self._send(self._query, text, "application/sparql-query", 3600, _TRIPLES)
        serialize(parse(body, RdfFormat.N_TRIPLES), out, format, prefixes=used(self.prefixes))

    def _send_update(self, text: str, seconds: float) -> None:
        self._send(self._update, text, "application/sparql-update", seconds, "*/*")

    def _send(self, url: str, body: str | IO[bytes], kind: str, seconds: float, accept: str) -> tuple[bytes, str]:
        data = body.encode() if isinstance(body, str) else body
        size = len(data) if isinstance(data, bytes) else os.fstat(data.fileno()).st_size
        headers = {"Content-Type": kind, "Accept": accept, "Content-Length": str(size)}
        request = Request(url, data, headers, method="POST")
        deadline = time.monotonic() + seconds if seconds else None
        try:
            with urlopen(request, timeout=seconds or None) as response:
                return _read(response, deadline), response.headers.get("Content-Type", "")
        except HTTPError as error:
            said = error.read(2000).decode(errors="replace").strip()
            wrong = error.code in (400, 405, 415)
            raise (InputError if wrong else RunError)(
                f"{self.name} refused: {said or error.reason} ({error.code})"
            ) from error
        except TimeoutError as error:
            raise InputError(f"{self.name}: the query was not waited for longer than {seconds:g} s") from error
        except URLError as error:
            if isinstance(error.reason, (TimeoutError, socket.timeout)):
                raise InputError(f"{self.name}: the query was not waited for longer than {seconds:g} s") from error
            raise InputError(f"no SPARQL endpoint answers at {self.name}: {error.reason}") from error
        except (HTTPException, ValueError, OSError) as error:
            raise RunError(f"{self.name} broke off: {error}") from error


def _read(response: HTTPResponse, deadline: float | None) -> bytes:
    parts = []
    while chunk := response.read(1 << 16):
        parts.append(chunk)
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError
    return b"".join(parts)
