"""Commands that work on runs: run, resume, check, report, export."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tutelage.cli.app import app
from tutelage.cli.output import as_json, show

if TYPE_CHECKING:
    from tutelage.api import Finished
    from tutelage.cli.progress import Bars

RecipeArgument = Annotated[Path, typer.Argument(help="Recipe file.", show_default=False)]
RunArgument = Annotated[Path, typer.Argument(help="Folder of a run.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Changes to the recipe: `train.epochs=5 method.beta=4`.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print facts as JSON.")]
TrustCode = Annotated[bool, typer.Option("--trust-remote-code", help="Let a model folder run the code that it brings.")]
TrustPickle = Annotated[bool, typer.Option("--trust-pickle", help="Read weights from pickles, tensors only.")]


def _trust(code: bool, pickle: bool) -> None:
    # The environment carries the permission to worker processes as well.
    if code:
        os.environ["TUTELAGE_TRUST_REMOTE_CODE"] = "1"
    if pickle:
        os.environ["TUTELAGE_TRUST_PICKLE"] = "1"


@app.command()
def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", help="Put the run in exactly this folder.", show_default=False)
    ] = None,
    runs: Annotated[Path, typer.Option("--runs", help="Folder in which the run's folder is made.")] = Path("runs"),
    trust_remote_code: TrustCode = False,
    trust_pickle: TrustPickle = False,
    json: Json = False,
) -> None:
    """Do what a recipe says: train the teacher if it needs it, transfer, train the control, measure, report.

    Ctrl-C saves and says how to go on. Several processes: `accelerate launch -m tutelage run RECIPE --run-dir DIR`.
    """
    from tutelage import api
    from tutelage.recipe.loading import load_recipe

    _trust(trust_remote_code, trust_pickle)
    loaded = load_recipe(recipe, overrides or ())
    _finish(lambda bars: api.run(loaded, root=runs, run_dir=run_dir, listener=bars), json)


@app.command()
def resume(
    run: RunArgument, trust_remote_code: TrustCode = False, trust_pickle: TrustPickle = False, json: Json = False
) -> None:
    """Go on with a run that was interrupted or killed: it ends as if nothing had happened."""
    from tutelage import api

    _trust(trust_remote_code, trust_pickle)
    _finish(lambda bars: api.resume(run, listener=bars), json)


def _finish(work: Callable[[Bars], Finished], json: bool) -> None:
    from tutelage.cli.progress import Bars
    from tutelage.report.terminal import table

    with Bars() as bars:
        finished = work(bars)
    if int(os.environ.get("RANK", "0")) != 0:
        return
    if json:
        as_json({"run": str(finished.folder), **finished.report})
        return
    show(table(finished.report))
    typer.echo(f"\nrun     {finished.folder}")
    page = finished.folder / "report.html"
    if page.is_file():
        typer.echo(f"report  {page}")


@app.command()
def check(recipe: RecipeArgument, overrides: Overrides = None, json: Json = False) -> None:
    """Find every mistake in a recipe, and say how large, how long and how much memory, without training."""
    from tutelage.recipe.loading import load_recipe

    loaded = load_recipe(recipe, overrides or ())
    from tutelage.api.checking import estimate

    facts = estimate(loaded)
    if json:
        as_json(facts)
        return
    from rich.table import Table

    grid = Table("", "parameters", "weights", "activations a step", box=None)
    for name, row in facts["models"].items():
        grid.add_row(name, f"{row['parameters']:,}", _bytes(row["weights_bytes"]), _bytes(row["activation_bytes"]))
    show(grid)
    for name, row in facts["models"].items():
        if "store_bytes" in row:
            typer.echo(f"store: {_bytes(row['store_bytes'])} of the {name}'s logits")
    data = facts["data"]
    typer.echo(
        f"data: {data['train']:,} to train on, {data['validation']:,} to validate, {data['test']:,} to test; "
        f"{data['classes']} classes; samples of shape {tuple(data['input_shape'])}"
    )
    typer.echo(
        f"work: {facts['steps']:,} steps, about {facts['flops']:.2g} FLOP, roughly {_time(facts['seconds'])} here; "
        f"about {_bytes(facts['memory_bytes'])} of memory beside the data"
    )
    typer.echo(f"{recipe}: ok")


def _bytes(value: float | None) -> str:
    if value is None:
        return "unknown"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.3g} {unit}"
        value /= 1000
    return ""


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


@app.command()
def report(run: RunArgument, json: Json = False) -> None:
    """Show a run's report again, and write its HTML page anew."""
    from tutelage.report.html import save_html
    from tutelage.report.store import load_report
    from tutelage.report.terminal import table

    content = load_report(run)
    if json:
        as_json({"run": str(run), **content})
        return
    show(table(content))
    if run.is_dir():
        typer.echo(f"\nreport  {save_html(run)}")


@app.command()
def export(
    run: RunArgument,
    to: Annotated[str, typer.Option("--to", help="Format: onnx or safetensors.")] = "safetensors",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write; in the run's folder unless given.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Write a run's model for another program, load it back, and compare its outputs with the original's."""
    from tutelage.api.exporting import export_run

    facts = export_run(run, to, output)
    if json:
        as_json(facts)
    else:
        typer.echo(f"{facts['path']}: outputs differ from the original's by at most {facts['max_difference']:.2g}")
