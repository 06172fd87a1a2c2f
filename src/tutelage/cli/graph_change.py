"""Commands that change stored graphs: change, apply, diff, undo, log."""

from __future__ import annotations

import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tutelage.cli.graph import graph
from tutelage.cli.graph_store import AsJson, Author, Place, Prefix, prefix_map
from tutelage.cli.output import as_json, show

if TYPE_CHECKING:
    from tutelage.api.changing import Changed

_SHOWN = 40


class Edges(StrEnum):
    """How edges are written."""

    auto = "auto"
    owl = "owl"
    plain = "plain"


class Form(StrEnum):
    """Forms of a patch."""

    text = "text"
    json = "json"
    rdf = "rdf"


EdgeForm = Annotated[
    Edges,
    typer.Option(help="owl: edges between classes are restrictions; plain: triples; auto: as the graph's types say."),
]
Cascade = Annotated[bool, typer.Option("--cascade", help="Delete nodes that are in use, with what uses them.")]
Rewire = Annotated[bool, typer.Option("--rewire", help="What refers to a replaced node refers to its replacement.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")]


@graph.command()
def change(
    place: Place,
    command: Annotated[
        str | None, typer.Argument(help="One or more commands of KGCL, one a line; - reads them.", show_default=False)
    ] = None,
    file: Annotated[Path | None, typer.Option(help="A file of commands, or .json or .ttl.", show_default=False)] = None,
    dry_run: Dry = False,
    edges: EdgeForm = Edges.auto,
    cascade: Cascade = False,
    rewire: Rewire = False,
    prefix: Prefix = [],  # noqa: B006 - typer reads the default and hands out copies
    author: Author = None,
    json: AsJson = False,
) -> None:
    """Change a graph in the change language, all or nothing, e.g. `add synonym 'arm' to 'forelimb'`."""
    from tutelage.api import changing
    from tutelage.data.kgcl.view import Rules
    from tutelage.recipe.errors import InputError

    if (command is None) == (file is None):
        raise InputError("give a command or `--file`, and not both")
    text = sys.stdin.read() if command == "-" else command
    found = changing.change(
        place,
        text if text is not None else changing.read_changes(file) if file else "",
        rules=Rules(edges=edges.value, cascade=cascade, rewire=rewire),
        dry_run=dry_run,
        prefixes=prefix_map(prefix),
        author=author,
    )
    _print([found], json, dry_run, "")


@graph.command(name="apply")
def apply_(
    place: Place,
    patch: Annotated[Path, typer.Argument(help="A file of commands, or .json or .ttl.", show_default=False)],
    dry_run: Dry = False,
    edges: EdgeForm = Edges.auto,
    cascade: Cascade = False,
    rewire: Rewire = False,
    prefix: Prefix = [],  # noqa: B006
    author: Author = None,
    json: AsJson = False,
) -> None:
    """Apply a patch, such as one of `graph diff`; the same as `graph change --file`."""
    change(
        place,
        None,
        file=patch,
        dry_run=dry_run,
        edges=edges,
        cascade=cascade,
        rewire=rewire,
        prefix=prefix,
        author=author,
        json=json,
    )


@graph.command()
def diff(
    old: Annotated[str, typer.Argument(metavar="A", help="A graph, or a file of one.", show_default=False)],
    new: Annotated[str, typer.Argument(metavar="B", help="Another.", show_default=False)],
    form: Annotated[Form, typer.Option("--as", help="How to write the patch.")] = Form.text,
    summary: Annotated[bool, typer.Option("--summary", help="Only count the changes by type.")] = False,
    prefix: Prefix = [],  # noqa: B006
    json: AsJson = False,
) -> None:
    """Say what makes B of A, in the change language: `graph apply A PATCH` does it."""
    from tutelage.api.changing import difference
    from tutelage.data.kgcl.language import render_all
    from tutelage.data.kgcl.wire import to_json, to_rdf

    found = difference(old, new, prefixes=prefix_map(prefix))
    if summary and (json or form is Form.json):
        as_json({"changes": found.counts(), "ambiguous": list(found.ambiguous)})
    elif summary:
        for kind, count in found.counts().items():
            show(f"{count:6} {kind}")
    elif json or form is Form.json:
        sys.stdout.write(to_json(found.changes))
    elif form is Form.rdf:
        sys.stdout.write(to_rdf(found.changes))
    else:
        sys.stdout.write(render_all(found.changes))
    for group in found.ambiguous:
        sys.stderr.write(f"note: {group}\n")


@graph.command()
def undo(
    place: Place,
    count: Annotated[int, typer.Argument(metavar="N", min=1, help="How many changes.")] = 1,
    dry_run: Dry = False,
    author: Author = None,
    json: AsJson = False,
) -> None:
    """Take back the last changes, exactly; what takes back is an entry of the journal, too."""
    from tutelage.api.changing import undo as work

    _print(work(place, count, dry_run=dry_run, author=author), json, dry_run, "took back ")


@graph.command()
def log(
    place: Place,
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="How many entries.", show_default=False)
    ] = None,
    json: AsJson = False,
) -> None:
    """Show a graph's journal, newest first: who changed what, and when."""
    from tutelage.api.changing import log as work

    entries = work(place, count)
    if json:
        as_json(entries)
        return
    from rich.text import Text

    for e in entries:
        state = f", undoes {e['undoes']}" if e["undoes"] else ""
        state += f", undone by {e['undone by']}" if e["undone by"] else ""
        show(Text(f"{e['id']} {e['kind']} by {e['author']} at {e['time']} (+{e['added']} -{e['removed']}{state})"))
        for command in e["commands"]:
            show(Text(f"    {command}"))
        if e["note"]:
            show(Text(f"    {e['note']}"))


def _print(found: list[Changed], json: bool, dry_run: bool, verb: str) -> None:
    if json:
        values: list[dict[str, Any]] = [asdict(one) for one in found]
        as_json(values if verb else values[0])
        return
    from rich.text import Text

    for one in found:
        for note in one.notes:
            sys.stderr.write(f"note: {note}\n")
        if verb:
            show(Text(verb + "; ".join(one.commands)))
        lines = [*(f"- {x}" for x in one.removed), *(f"+ {x}" for x in one.added)]
        for line in lines if dry_run else lines[:_SHOWN]:
            show(Text(line))
        if len(lines) > _SHOWN and not dry_run:
            show(f"  and {len(lines) - _SHOWN} more")
        count = f"{len(one.added)} triples come, {len(one.removed)} go"
        if dry_run:
            show(f"nothing was changed; {count}")
            if one.undo:
                show(Text("back again: " + "; ".join(one.undo)))
        elif one.entry is None:
            show("nothing to change")
        else:
            show(f"entry {one.entry}: {count}")
