"""Commands on stored graphs: load, query, stats, export, serve."""

from __future__ import annotations

import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from tutelage.cli.graph import graph
from tutelage.cli.output import as_json, show

Place = Annotated[
    str, typer.Argument(metavar="GRAPH", help="A folder, or a SPARQL endpoint's URL.", show_default=False)
]
Prefix = Annotated[
    list[str], typer.Option("--prefix", metavar="NAME=IRI", help="A prefix to know; may be given again.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Author = Annotated[
    str | None,
    typer.Option(help="Who does it, for the journal; TUTELAGE_AUTHOR, or else the user.", show_default=False),
]
_MANY = 20
_QUICK = 2.0


class Bad(StrEnum):
    """What to do with lines that are no triples."""

    refuse = "refuse"
    skip = "skip"


class Shown(StrEnum):
    """How to print an answer."""

    table = "table"
    json = "json"
    csv = "csv"


class Written(StrEnum):
    """Formats that graphs are written in."""

    ttl = "ttl"
    nt = "nt"
    rdf = "rdf"
    jsonld = "jsonld"
    obo = "obo"
    tsv = "tsv"
    graphml = "graphml"


def prefix_map(given: list[str]) -> dict[str, str]:
    """``NAME=IRI`` as a map.

    Raises:
        InputError: It is none.
    """
    from tutelage.recipe.errors import InputError

    out = {}
    for text in given:
        name, sign, iri = text.partition("=")
        if not sign or ":" not in iri:
            raise InputError(f"--prefix {text!r}: expected NAME=IRI, such as ex=http://example.org/")
        out[name.rstrip(":")] = iri
    return out


@graph.command()
def load(
    place: Place,
    files: Annotated[
        list[Path],
        typer.Argument(help="Turtle, N-Triples, RDF/XML, JSON-LD, OBO, TSV or GraphML; .gz too.", show_default=False),
    ],
    format: Annotated[
        str | None, typer.Option(help="ttl, nt, rdf, jsonld, obo, tsv or graphml; else by the name's ending.")
    ] = None,
    bad: Annotated[
        Bad, typer.Option(help="Whether a line that is no triple is refused or left out and counted.")
    ] = Bad.refuse,
    base: Annotated[
        str | None, typer.Option(help="Namespace of plain names in TSV and GraphML, and of relative IRIs.")
    ] = None,
    prefix: Prefix = [],  # noqa: B006 - typer reads the default and hands out copies
    author: Author = None,
    json: AsJson = False,
) -> None:
    """Load files into a graph, all of them or none; a folder that is not there becomes one."""
    from tutelage.api.graphs import load as work

    with _Reading(files) as reading:
        found = work(
            place,
            files,
            format=format,
            on_bad=bad.value,
            base=base,
            prefixes=prefix_map(prefix),
            author=author,
            progress=reading.advance,
        )
    for warning in found["warnings"]:
        reading.note(warning)
    if json:
        as_json(found)
    else:
        show(f"{found['graph']}: {found['added']:,} triples more, {found['triples']:,} in all")


@graph.command()
def query(
    place: Place,
    text: Annotated[str, typer.Argument(metavar="SPARQL", help="The query; - reads it.", show_default=False)],
    write: Annotated[bool, typer.Option("--write", help="Take a SPARQL update, which changes the graph.")] = False,
    seconds: Annotated[float, typer.Option(min=0, help="Stop after this long; 0 for never.")] = 30.0,
    rows: Annotated[int, typer.Option(min=1, help="Fetch no more rows than this.")] = 10_000,
    shown: Annotated[Shown, typer.Option("--as", help="How to print the answer.")] = Shown.table,
    prefix: Prefix = [],  # noqa: B006
    author: Author = None,
    json: AsJson = False,
) -> None:
    """Ask a graph in SPARQL. Common prefixes need not be declared. Nothing is changed unless `--write` says so."""
    from tutelage.api import graphs

    text = sys.stdin.read() if text == "-" else text
    given = prefix_map(prefix)
    if write:
        entry = graphs.update(place, text, seconds=seconds, prefixes=given, author=author)
        show(f"changed; entry {entry} of the journal, which cannot be undone")
        return
    answer, prefixes = graphs.query(place, text, seconds=seconds, rows=rows, prefixes=given)
    if json or shown is Shown.json:
        as_json(graphs.as_sparql_json(answer))
    elif shown is Shown.csv:
        sys.stdout.write(graphs.as_csv(answer))
    elif answer.boolean is not None:
        show("yes" if answer.boolean else "no")
    else:
        from rich.text import Text

        table = _table(*answer.variables)
        for row in graphs.readable(answer, prefixes):
            table.add_row(*(Text(cell) for cell in row))
        show(table)
    if answer.cut:
        sys.stderr.write(f"note: there are more than {rows} rows; `--rows` fetches more\n")


@graph.command()
def stats(place: Place, json: AsJson = False) -> None:
    """Count what is in a graph: triples, nodes, predicates, classes."""
    from tutelage.api.graphs import stats as work

    found = work(place)
    if json:
        as_json(found)
        return
    from rich.text import Text

    table = _table("", "count")
    for name in ("triples", "subjects", "predicates", "labels", "obsolete", "changes"):
        table.add_row(name, f"{found[name]:,}")
    show(table)
    for name in ("by predicate", "by type"):
        if found[name]:
            table = _table(name.removeprefix("by "), "triples" if name == "by predicate" else "nodes")
            for key, count in list(found[name].items())[:_MANY]:
                table.add_row(Text(key), f"{count:,}")
            show("", table)


@graph.command()
def export(
    place: Place,
    to: Annotated[Written, typer.Option(help="The format.", show_default=False)],
) -> None:
    """Write a graph to standard output."""
    from tutelage.api.graphs import export as work

    sys.stdout.flush()
    for note in work(place, to.value, sys.stdout.buffer):
        sys.stderr.write(f"note: {note}\n")


@graph.command()
def serve(
    place: Annotated[Path, typer.Argument(metavar="GRAPH", help="A folder.", show_default=False)],
    bind: Annotated[str, typer.Option(help="Host and port.")] = "localhost:7878",
    seconds: Annotated[int, typer.Option(min=1, help="Stop a query after this long.")] = 30,
) -> None:
    """Serve a graph as a read-only SPARQL endpoint, by Oxigraph's own server; Ctrl-C ends it."""
    from tutelage.api.graphs import serve as work

    work(
        place,
        bind,
        seconds=seconds,
        told=lambda url: sys.stderr.write(f"note: {place} answers at {url}; Ctrl-C ends it\n"),
    )


def _table(*columns: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        right = name in ("count", "triples", "nodes")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    return table


class _Reading:
    """A bar over the bytes of files."""

    def __init__(self, files: list[Path]) -> None:
        from tutelage.cli.progress import Bars

        self._sizes = [f.stat().st_size if f.is_file() else 0 for f in files]
        self._bars, self._done = Bars(), 0
        self._at, self._began = -1, time.monotonic()

    def __enter__(self) -> _Reading:
        self._bars.__enter__()
        self._bars.begin("load", max(1, sum(self._sizes) >> 10))
        return self

    def __exit__(self, *raised: Any) -> None:
        self._bars.__exit__(*raised)

    def advance(self, place: int, done: int) -> None:
        """Bytes read of a file."""
        at = (sum(self._sizes[:place]) + done) >> 10
        if at - self._at >= 256 and time.monotonic() - self._began > _QUICK:
            self._at = at
            self._bars.advance("load", at, {})

    def note(self, text: str) -> None:
        """A line on stderr."""
        self._bars.note(f"note: {text}")
