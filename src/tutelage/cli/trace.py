"""Commands on learners: train a model, predict, take answers in, draw states and prerequisites, say what is next."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tutelage.cli.app import app
from tutelage.cli.output import as_json, show
from tutelage.cli.runs import Json, Overrides

trace = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Knowledge tracing: what learners know, what they answer, and what they practise next.",
)
app.add_typer(trace, name="trace")

Model = Annotated[Path, typer.Argument(help="Folder of a run, or of a model.", show_default=False)]
Log = Annotated[Path, typer.Argument(help="Answers: .csv, .tsv, .txt or .parquet.", show_default=False)]
Store = Annotated[Path, typer.Option(help="SQLite file that keeps learners' answers.")]
Who = Annotated[str, typer.Option("--learner", help="A learner, as the log names them.", show_default=False)]
Layout = Annotated[str, typer.Option(help="Layout of the file; `auto` finds out.")]
DEFAULT = Path("learners.sqlite")


@trace.command()
def train(
    source: Annotated[Path, typer.Argument(help="A recipe, or a log of answers.", show_default=False)],
    overrides: Overrides = None,
    method: Annotated[str, typer.Option(help="Method and model, where a log is given.")] = "psi-kt",
    run_dir: Annotated[Path | None, typer.Option("--run-dir", help="Exactly this folder.", show_default=False)] = None,
    runs: Annotated[Path, typer.Option("--runs", help="Folder in which the run's folder is made.")] = Path("runs"),
    json: Json = False,
) -> None:
    """Train a model of learners by a recipe, or with usual settings on a log: `tutelage trace train answers.csv`."""
    from tutelage import api
    from tutelage.api.tracing import usual_recipe
    from tutelage.cli.runs import _finish
    from tutelage.recipe.loading import load_recipe

    whole: Any = source if source.suffix in (".yaml", ".yml") else usual_recipe(source, method)
    loaded = load_recipe(whole, overrides or ())
    _finish(lambda bars: api.run(loaded, root=runs, run_dir=run_dir, listener=bars), json)


@trace.command()
def predict(
    model: Model,
    answers: Log,
    out: Annotated[
        Path | None, typer.Option(help="CSV with a row for each answer; printed unless given.", show_default=False)
    ] = None,
    learners: Annotated[bool, typer.Option("--learners", help="Name learners in the rows.")] = False,
    layout: Layout = "auto",
    json: Json = False,
) -> None:
    """Say how likely each answer of a log was right, from those before it, and how well that fits.

    Rows name no learner unless `--learners` asks for it. Answers on concepts that the model does not know get the share
    of right answers in training.
    """
    from tutelage.api.tracing import predict_file

    facts = predict_file(
        model, answers, out, name_learners=learners, layout=layout, rows=sys.stdout if not json else None
    )
    if json:
        as_json(facts)
        return
    _say(facts)


@trace.command()
def update(model: Model, answers: Log, store: Store = DEFAULT, layout: Layout = "auto", json: Json = False) -> None:
    """Take new answers in, without training again; what was taken in before counts as repeated."""
    from tutelage.api.tracing import update_from

    facts = update_from(model, answers, store, layout=layout)
    if json:
        as_json(facts)
        return
    _say(facts)


@trace.command()
def state(
    model: Model,
    learner: Who,
    store: Store = DEFAULT,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw mastery over time, with its uncertainty (.svg or .png).", show_default=False),
    ] = None,
    concepts: Annotated[int, typer.Option(min=1, help="How many concepts, those practised most.")] = 8,
    json: Json = False,
) -> None:
    """Show what a learner knows now, and draw how it came about."""
    from tutelage.api.tracing import state_of

    facts = state_of(model, store, learner, plot=plot, concepts=concepts)
    if json:
        as_json(facts)
        return
    rows = [[r["concept"], f"{r['chance']:.2f}", f"{r['low']:.2f} to {r['high']:.2f}"] for r in facts["concepts"]]
    _table(("concept", "right", "95 %"), rows[:concepts])
    typer.echo(f"after {facts['answers']:,} answers" + (f"; drawn in {plot}" if plot else ""))


@trace.command("map")
def draw_map(
    model: Model,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the graph: .graphml, .json, or a picture (.svg, .png).", show_default=False),
    ] = None,
    threshold: Annotated[float, typer.Option(min=0.0, max=1.0, help="Least probability of an edge.")] = 0.5,
    json: Json = False,
) -> None:
    """Show, draw or export the graph of prerequisites that a model learnt, with how likely each edge is."""
    from tutelage.api.tracing import prerequisites

    edges = prerequisites(model, out=out, threshold=threshold)
    if json:
        as_json(edges)
        return
    rows = [[e["prerequisite"], e["of"], f"{e['probability']:.3f}"] for e in edges[:30]]
    _table(("prerequisite", "of", "probability"), rows)
    typer.echo(f"{len(edges):,} edges of at least {threshold:g}" + (f"; written to {out}" if out else ""))


@trace.command("next")
def following(
    model: Model,
    learner: Who,
    store: Store = DEFAULT,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many concepts.")] = 5,
    json: Json = False,
) -> None:
    """Rank what a learner practises next, and say why."""
    from tutelage.api.tracing import next_for

    rows = next_for(model, store, learner, count=count)
    if json:
        as_json(rows)
        return
    _table(("concept", "score", "why"), [[r["concept"], f"{r['score']:.3f}", r["why"]] for r in rows])


@trace.command()
def serve(
    model: Model,
    store: Store = DEFAULT,
    host: Annotated[str, typer.Option(help="Interface to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8000,
) -> None:
    """Answer a tutoring system over HTTP, until Ctrl-C: POST /answers, /state and /next, GET /about.

    Only this machine can ask, unless `--host` says otherwise; then the environment variable TUTELAGE_TOKEN must hold a
    token, which askers show. An answer that was acknowledged is on the disk.
    """
    from tutelage.api.learners import Learners
    from tutelage.api.serving_learners import serve as listen

    learners = Learners(model, store)
    sys.stderr.write(f"{model} answers at http://{host}:{port}, learners in {store}; stop with Ctrl-C\n")
    listen(learners, host=host, port=port, token=os.environ.get("TUTELAGE_TOKEN") or None)


def _say(facts: dict[str, Any]) -> None:
    for name, value in facts.items():
        for line in value if isinstance(value, list) else [value]:
            text = f"{line:,}" if isinstance(line, int) else f"{line:.4g}" if isinstance(line, float) else str(line)
            typer.echo(f"{name}: {text}", err=True)


def _table(columns: tuple[str, ...], rows: list[list[str]]) -> None:
    from rich.table import Table

    grid = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        grid.add_row(*row)
    show(grid)
