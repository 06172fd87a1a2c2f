"""What is done with stored graphs: loaded, asked, counted, written, served."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NoReturn

from tutelage.recipe.errors import InputError, TutelageError

if TYPE_CHECKING:
    from tutelage.data.rdf.graph import Answer
    from tutelage.data.rdf.terms import Prefixes

_UPDATE = re.compile(r"(INSERT|DELETE|LOAD|CLEAR|DROP|CREATE|COPY|MOVE|ADD|WITH)\b", re.IGNORECASE)
_BEFORE = re.compile(r"\s*(?:#[^\n]*\n|PREFIX\s+[^\s<]*\s*<[^>]*>|BASE\s*<[^>]*>)", re.IGNORECASE)


def load(
    place: str | Path,
    files: Sequence[Path],
    *,
    format: str | None = None,
    on_bad: Literal["refuse", "skip"] = "refuse",
    base: str | None = None,
    prefixes: Mapping[str, str] | None = None,
    author: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Load files, all of them or none.

    Args:
        place: A folder, made where there is none, or an endpoint.
        files: Turtle, N-Triples, RDF/XML, JSON-LD, OBO, TSV or GraphML.
        format: Of all of them; by their endings where it is not given.
        on_bad: Whether a line that is no triple is refused, or left out and counted.
        base: Namespace of plain names and of relative IRIs.
        prefixes: Prefixes that the graph is to know.
        author: For the journal.
        progress: Told the place of a file among the files, and how many of its bytes have been read.

    Raises:
        InputError: A file is wrong; nothing was loaded.
    """
    from tutelage.data.rdf.opening import open_graph
    from tutelage.data.rdf.sources import Source
    from tutelage.data.rdf.terms import NAMES, Prefixes

    given = Prefixes(prefixes)
    sources = [
        Source(
            path,
            format=format,
            base=base or NAMES,
            on_bad=on_bad,
            prefixes=given,
            progress=(lambda done, place=place: progress(place, done)) if progress else None,  # type: ignore[misc]
        )
        for place, path in enumerate(files)
    ]
    far = str(place).startswith(("http://", "https://"))
    new = not far and not Path(place).expanduser().exists()
    with open_graph(place, "write", prefixes) as graph:
        try:
            added = graph.load(sources, stamp(author))
        except TutelageError:
            # A folder that was made for nothing is no graph that anybody asked for.
            if new:
                graph.close()
                shutil.rmtree(Path(place).expanduser(), ignore_errors=True)
            raise
        warnings = [w for s in sources for w in s.warnings]
        return {"graph": graph.name, "added": added, "triples": len(graph), "warnings": warnings}


def stamp(author: str | None) -> Any:
    """Who, and when."""
    from tutelage.data.rdf.journal import Stamp

    return Stamp(author) if author else Stamp()


def query(
    place: str | Path, text: str, *, seconds: float = 30, rows: int = 10_000, prefixes: Mapping[str, str] | None = None
) -> tuple[Answer, Prefixes]:
    """Ask a graph; the answer, and the prefixes to show it with.

    Raises:
        InputError: It is no query, or would change the graph, or took too long.
    """
    from tutelage.data.rdf.opening import open_graph

    if _UPDATE.match(_start(text)):
        raise InputError("this SPARQL would change the graph, and only reading is allowed; `--write` allows it")
    with open_graph(place, "read", prefixes) as graph:
        return graph.query(text, seconds=seconds, rows=rows), graph.prefixes


def update(
    place: str | Path,
    text: str,
    *,
    seconds: float = 30,
    prefixes: Mapping[str, str] | None = None,
    author: str | None = None,
) -> int:
    """Change a graph by SPARQL; the number of the journal's entry."""
    from tutelage.data.rdf.opening import open_graph

    if not _UPDATE.match(_start(text)):
        raise InputError("this SPARQL changes nothing; leave out `--write`")
    with open_graph(place, "write", prefixes) as graph:
        return graph.update(text, seconds=seconds, stamp=stamp(author)).id


def _start(text: str) -> str:
    """SPARQL without its prologue."""
    while found := _BEFORE.match(text):
        text = text[found.end() :]
    return text.lstrip()


def as_sparql_json(answer: Answer) -> dict[str, Any]:
    """SPARQL 1.1's JSON results; triples are rows of subject, predicate and object."""
    if answer.boolean is not None:
        return {"head": {}, "boolean": answer.boolean}
    rows = [{n: c for n, c in zip(answer.variables, row, strict=True) if c is not None} for row in answer.rows]
    return {"head": {"vars": list(answer.variables)}, "results": {"bindings": rows}, "truncated": answer.cut}


def as_csv(answer: Answer) -> str:
    """SPARQL 1.1's CSV results."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if answer.boolean is not None:
        writer.writerows((("boolean",), (str(answer.boolean).lower(),)))
        return out.getvalue()
    writer.writerow(answer.variables)
    for row in answer.rows:
        writer.writerow(["" if c is None else f"_:{c['value']}" if c["type"] == "bnode" else c["value"] for c in row])
    return out.getvalue()


def readable(answer: Answer, prefixes: Prefixes) -> Iterator[tuple[str, ...]]:
    """Rows for people: CURIEs, and literals without quotes where they are plain."""
    from tutelage.data.rdf.graph import term

    for row in answer.rows:
        yield tuple(
            "" if c is None else c["value"] if c["type"] in ("literal", "triple") else prefixes.short(term(c))
            for c in row
        )


def stats(place: str | Path, *, seconds: float = 600) -> dict[str, Any]:
    """Counts: triples, subjects, predicates, labels, obsolete nodes, changes; and by predicate and type."""
    from tutelage.data.rdf.opening import open_graph

    with open_graph(place) as graph:
        changes = sum(1 for entry in graph.entries() if entry.kind != "load")

        def table(text: str) -> dict[str, int]:
            from tutelage.data.rdf.graph import term

            rows = graph.query(text, seconds=seconds, rows=10_000).rows
            return {graph.prefixes.short(term(k)): int(n["value"]) for k, n in rows if k is not None and n is not None}

        def one(text: str) -> int:
            found = graph.query(text, seconds=seconds, rows=1).rows[0][0]
            return int(found["value"]) if found else 0

        by_predicate = table("SELECT ?p (COUNT(*) AS ?n) { ?s ?p ?o } GROUP BY ?p ORDER BY DESC(?n) ?p")
        return {
            "graph": graph.name,
            "triples": sum(by_predicate.values()),
            "subjects": one("SELECT (COUNT(DISTINCT ?s) AS ?n) { ?s ?p ?o }"),
            "predicates": len(by_predicate),
            "labels": by_predicate.get("rdfs:label", 0),
            "obsolete": one("SELECT (COUNT(DISTINCT ?s) AS ?n) { ?s owl:deprecated true }"),
            "changes": changes,
            "by predicate": by_predicate,
            "by type": table("SELECT ?t (COUNT(*) AS ?n) { ?s a ?t } GROUP BY ?t ORDER BY DESC(?n) ?t"),
        }


def export(place: str | Path, format: str, out: IO[bytes]) -> list[str]:
    """Write a graph; what could not be written is said in the notes that come back.

    Args:
        place: A folder or an endpoint.
        format: ``ttl``, ``nt``, ``rdf``, ``jsonld``, ``obo``, ``tsv`` or ``graphml``.
        out: Takes the bytes.
    """
    from tutelage.data.rdf.opening import open_graph
    from tutelage.data.rdf.sources import RDF_FORMATS

    with open_graph(place) as graph:
        if format in RDF_FORMATS:
            graph.dump(out, RDF_FORMATS[format])
        elif format == "tsv":
            from tutelage.data.rdf.tables import write_table

            write_table(graph, out)
        elif not graph.blank_nodes:
            raise InputError(
                f"{graph.name}: an endpoint is written as nt, ttl, rdf, jsonld or tsv; load that into a folder"
            )
        elif format == "graphml":
            from tutelage.data.rdf.graphml import write_graphml

            write_graphml(graph, out)
        else:
            from tutelage.data.rdf.obo import write_obo

            if lost := write_obo(graph, out):
                return [f"{lost} triples have no form in OBO and were left out"]
    return []


def serve(place: Path, bind: str, *, seconds: int, told: Callable[[str], object]) -> NoReturn:
    """Become Oxigraph's server of a graph, for reading; others may read it beside, and nobody may write.

    Raises:
        InputError: There is no graph, or no server is installed.
    """
    from tutelage.data.rdf.folder import Folder

    beside = Path(sysconfig.get_path("scripts")) / ("oxigraph.exe" if os.name == "nt" else "oxigraph")
    program = str(beside) if beside.is_file() else shutil.which("oxigraph")
    if program is None:
        raise InputError("serving needs Oxigraph's server: pip install 'tutelage[graph]'")
    graph = Folder(place)
    graph.hand_on()
    told(f"http://{bind}/query")
    command = [program, "serve-read-only", "--location", str(graph.store_path), "--bind", bind]
    # In this process's place, so that no server outlives whoever stops it, and the lock is held as long as it runs.
    os.execv(program, [*command, "--timeout-s", str(seconds)])
