"""The group of commands on knowledge graphs."""

from __future__ import annotations

import typer

from tutelage.cli.app import app

graph = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Knowledge graphs: keep, change, embed and complete them."
)
app.add_typer(graph, name="graph")
