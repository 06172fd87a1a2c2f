"""A graph by its place: a folder, or an endpoint's address."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tutelage.data.rdf.endpoint import Endpoint
from tutelage.data.rdf.folder import Folder, Mode
from tutelage.data.rdf.graph import Graph


def open_graph(place: str | Path, mode: Mode = "read", prefixes: Mapping[str, str] | None = None) -> Graph:
    """Open a graph.

    Args:
        place: A folder, or the URL of a SPARQL endpoint.
        mode: ``read``, or ``write``, which makes a folder that is not there.
        prefixes: Prefixes to add; a folder that is written remembers them.

    Raises:
        InputError: There is none, or another process has it.
    """
    if str(place).startswith(("http://", "https://")):
        return Endpoint(str(place), prefixes)
    return Folder(Path(place).expanduser(), mode, prefixes)
