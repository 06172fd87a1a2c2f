"""The commands; each room of the command line adds its own."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(value: bool) -> None:
    if value:
        from tutelage import __version__

        typer.echo(f"tutelage {__version__}")
        raise typer.Exit()


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Move knowledge from one model to another, and see what arrived, what was kept, what was lost and what leaked.

    A first run: `tutelage new wttm > my.yaml`, `tutelage check my.yaml`, `tutelage run my.yaml`.
    """


# They register their commands on the app.
from tutelage.cli import compare, completing, facts, graph_change, graph_store, runs, serving, trace  # noqa: E402, F401
