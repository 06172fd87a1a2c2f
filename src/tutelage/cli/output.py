"""Results go to stdout."""

from __future__ import annotations

import json
import sys
from typing import Any


def as_json(value: Any) -> None:
    """Print a value as JSON."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def show(*renderables: Any) -> None:
    """Print tables and text; a pipe gets a width that tables fit into."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    for renderable in renderables:
        console.print(renderable)
