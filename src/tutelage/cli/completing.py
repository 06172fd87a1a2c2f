"""Commands on embedded graphs: embed, complete, neighbours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.graph import graph
from tutelage.cli.output import as_json, show
from tutelage.cli.runs import Json, RunArgument, _finish


@graph.command()
def embed(
    source: Annotated[
        str,
        typer.Argument(help="A file of triples, a graph's folder, or a graph by name, e.g. umls.", show_default=False),
    ],
    to: Annotated[Path, typer.Option(help="Folder of the run.", show_default=False)],
    model: Annotated[
        str, typer.Option(help="A model of links: transe, rotate, distmult, complex or hake.")
    ] = "complex",
    width: Annotated[int, typer.Option(min=1, help="Numbers of an entity.")] = 64,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the triples.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    update: Annotated[
        Path | None,
        typer.Option(
            help="A run of the graph as it was: learn what was added since, forget what was deleted, and say how far "
            "that is from training anew.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Embed a graph: a row of numbers for each entity and relation, from which missing facts can be told.

    A recipe of the method `link-prediction` can say more: `tutelage new link-prediction`.
    """
    from tutelage.api.completing import embed as work

    _finish(
        lambda bars: work(
            source, to, model=model, width=width, epochs=epochs, seed=seed, earlier=update, listener=bars
        ),
        json,
    )


@graph.command()
def complete(
    run: RunArgument,
    relation: Annotated[str, typer.Option(help="The fact's relation.", show_default=False)],
    head: Annotated[str | None, typer.Option(help="Its head, to ask for tails.", show_default=False)] = None,
    tail: Annotated[str | None, typer.Option(help="Its tail, to ask for heads.", show_default=False)] = None,
    count: Annotated[int, typer.Option("--count", "-k", min=1, help="How many answers.")] = 10,
    known: Annotated[bool, typer.Option("--known", help="Show facts that were learnt, too.")] = False,
    json: Json = False,
) -> None:
    """Complete a fact: the most plausible answers, how likely each is, and ways through the graph that speak for it.

    Probabilities are fitted to facts that were held out: of answers said to be 30 % likely, about 30 % were among them.
    """
    from rich.table import Table
    from rich.text import Text

    from tutelage.api.completing import Embedded

    found = Embedded(run).complete(head=head, relation=relation, tail=tail, count=count, known=known)
    if json:
        as_json(found)
        return
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("answer", "probability", "", "because"):
        drawn.add_column(name, justify="right" if name == "probability" else "left", overflow="fold")
    for answer in found["answers"]:
        because = "\n".join(f"{p['support']:.0%} of {p['pairs']}: {p['path']}" for p in answer["because"]) or "-"
        cells = (answer["entity"], f"{answer['probability']:.3f}", answer["status"], because)
        # Names are text, and no markup, whatever brackets they hold.
        drawn.add_row(*(Text(cell) for cell in cells))
    show(drawn)


@graph.command()
def neighbours(
    run: RunArgument,
    entity: Annotated[str, typer.Argument(help="An entity.", show_default=False)],
    count: Annotated[int, typer.Option("--count", "-k", min=1, help="How many.")] = 10,
    json: Json = False,
) -> None:
    """Entities whose rows are most like an entity's, and the facts that they share."""
    from rich.table import Table
    from rich.text import Text

    from tutelage.api.completing import Embedded

    found = Embedded(run).neighbours(entity, count)
    if json:
        as_json(found)
        return
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("entity", "cosine", "shared facts"):
        drawn.add_column(name, justify="right" if name == "cosine" else "left", overflow="fold")
    for one in found["neighbours"]:
        shared = ", ".join(f"{name} ({times})" for name, times in list(one["shared"].items())[:4]) or "-"
        drawn.add_row(*(Text(cell) for cell in (one["entity"], f"{one['cosine']:.3f}", shared)))
    show(drawn)
