"""Commands that print what there is: methods, components, recipes, starters, schemas, data, taps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tutelage.cli.app import app
from tutelage.cli.output import as_json, show
from tutelage.cli.runs import Json, Overrides, RecipeArgument


@app.command()
def methods(
    route: Annotated[str | None, typer.Option(help="Only those of this route.", show_default=False)] = None,
    json: Json = False,
) -> None:
    """List the methods: name, route, what they are, where they come from."""
    from tutelage.recipe.errors import InputError, nearest
    from tutelage.recipe.registry import registry

    found = sorted(registry().entries("method"), key=lambda entry: (entry.route or "", entry.name))
    routes = sorted({entry.route for entry in found if entry.route})
    if route is not None and route not in routes:
        raise InputError(f"there is no route '{route}' with methods. {nearest(route, routes)}")
    rows: list[dict[str, Any]] = [
        {
            "name": e.name,
            "route": e.route,
            "title": e.title,
            "paper": e.paper,
            "recipe": e.recipe,
            "summary": e.summary,
            "package": e.package,
        }
        for e in found
        if route in (None, e.route)
    ]
    if json:
        as_json(rows)
        return
    _table(rows, ("name", "route", "title", "paper"))


@app.command()
def components(
    kind: Annotated[str | None, typer.Argument(help="Only this kind, e.g. model.", show_default=False)] = None,
    json: Json = False,
) -> None:
    """List what recipes can name besides methods: models, data, augmentations, optimizers, measures, ..."""
    from tutelage.recipe.errors import InputError, nearest
    from tutelage.recipe.registry import registry

    kinds = registry().kinds()
    if kind is not None and kind not in kinds:
        raise InputError(f"there is no kind of component '{kind}'. {nearest(kind, kinds)}")
    rows = [
        {"kind": k, "name": e.name, "summary": e.summary, "package": e.package}
        for k in sorted(kinds)
        if k == kind or (kind is None and k != "method")
        for e in sorted(registry().entries(k), key=lambda e: e.name)
    ]
    if json:
        as_json(rows)
        return
    _table(rows, ("kind", "name", "summary"))


@app.command()
def recipes(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder to look in; the shipped recipes unless given.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """List recipes, with the first line that each says of itself."""
    from tutelage.recipe.shipped import shipped

    rows = [{"path": str(path), "about": about} for path, about in shipped(folder)]
    if json:
        as_json(rows)
        return
    _table(rows, ("path", "about"))


@app.command()
def new(method: Annotated[str, typer.Argument(help="Name of a method; `tutelage methods` lists them.")]) -> None:
    """Print a starter recipe for a method, with every argument explained: `tutelage new wttm > my.yaml`."""
    from tutelage.recipe.starter import starter

    typer.echo(starter(method), nl=False)


@app.command()
def schema(
    method: Annotated[str | None, typer.Argument(help="Only recipes of this method.", show_default=False)] = None,
) -> None:
    """Print the JSON Schema of recipes, for editors."""
    from tutelage.recipe.editor_schema import json_schema

    as_json(json_schema(method))


@app.command()
def data(recipe: RecipeArgument, overrides: Overrides = None, json: Json = False) -> None:
    """Load a recipe's data and say what is in it: sizes, classes, what was skipped and why."""
    from tutelage.api.inspecting import describe_data
    from tutelage.recipe.loading import load_recipe

    facts = describe_data(load_recipe(recipe, overrides or ()))
    if json:
        as_json(facts)
        return
    typer.echo(
        f"{facts['name']}: {facts['train']:,} to train on, {facts['validation']:,} to validate, "
        f"{facts['test']:,} to test; samples of shape {tuple(facts['input_shape'])}"
    )
    _table(facts["per_class"], ("class", "train", "validation", "test"))
    for warning in facts["warnings"]:
        typer.echo(f"warning: {warning}")


@app.command("augment-score")
def augment_score(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    augment: Annotated[
        list[str] | None,
        typer.Option(help="An augmentation, or a sampler such as cutmix-pick; repeat it. `{name: shift, pixels: 2}`."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples of a batch.")] = 64,
    batches: Annotated[int, typer.Option(min=2, help="Batches that make a draw, half of them not augmented.")] = 10,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training samples.")] = 10,
    json: Json = False,
) -> None:
    """Rank augmentations by the recipe's teacher alone: the steadier its mean prediction, the better it teaches.

    `tutelage augment-score kd.yaml --augment cutout --augment cutmix --augment cutmix-pick`
    """
    from tutelage.api import score_augmentations
    from tutelage.recipe.yaml_source import parse_yaml

    asked = [parse_yaml(text).plain() for text in augment or ()]
    rows = score_augmentations(recipe, asked, overrides or (), batch_size=batch_size, batches=batches, epochs=epochs)
    if json:
        as_json(rows)
        return
    shown = [{**row, "spread": f"{row['spread']:.5f}", "entropy": f"{row['entropy']:.3f}"} for row in rows]
    _table(shown, ("name", "spread", "entropy", "draws"))


@app.command()
def taps(
    recipe: RecipeArgument,
    slot: Annotated[str, typer.Option(help="Which of its models.")] = "student",
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Print the tree of a recipe's model, with output shapes: the names that taps and freeze can use.

    `tutelage taps convnet` shows a model by its name, built with its defaults for the digits.
    """
    from tutelage.api.inspecting import tap_rows

    facts = tap_rows(recipe, slot, overrides or ())
    if json:
        as_json(facts)
        return
    rows = [{**row, "shape": "x".join(map(str, row["shape"])) if row["shape"] else "-"} for row in facts["taps"]]
    _table(rows, ("path", "type", "shape", "parameters"))
    for name, place in facts["standard"].items():
        typer.echo(f"{name}: {place}")


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    from rich.table import Table

    grid = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        grid.add_row(*(str(row[column] if row[column] is not None else "-") for column in columns))
    show(grid)
