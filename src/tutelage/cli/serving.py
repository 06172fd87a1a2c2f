"""The command that holds a model for others."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.app import app


@app.command()
def serve(
    model: Annotated[Path, typer.Argument(help="Folder of a run, or of a model.", show_default=False)],
    host: Annotated[str, typer.Option(help="Interface to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8000,
) -> None:
    """Answer questions to a run's model over HTTP, until Ctrl-C; `teacher: {model: served, url: ...}` asks them.

    Only this machine can ask, unless `--host` says otherwise; then the environment variable TUTELAGE_TOKEN must hold a
    token, which askers show.
    """
    from tutelage.api.serving import serve as listen

    sys.stderr.write(f"{model} answers at http://{host}:{port}; stop with Ctrl-C\n")
    listen(model, host=host, port=port, token=os.environ.get("TUTELAGE_TOKEN") or None)
