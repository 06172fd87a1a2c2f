from __future__ import annotations

import shutil
import socket
import subprocess
import sysconfig
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ONTOLOGY = Path(__file__).resolve().parents[3].parent / "shared/data/ontology/go-nucleus.owl.ttl"


@pytest.fixture
def ontology() -> Path:
    """A slice of the Gene Ontology."""
    if not ONTOLOGY.is_file():
        pytest.skip("the slice of the Gene Ontology is not at ../shared/data/ontology")
    return ONTOLOGY


@pytest.fixture
def endpoint() -> Iterator[str]:
    """A real Oxigraph server with an empty store in memory."""
    program = shutil.which("oxigraph", path=sysconfig.get_path("scripts")) or shutil.which("oxigraph")
    if program is None:
        pytest.skip("no Oxigraph server is installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen([program, "serve", "--bind", f"127.0.0.1:{port}"], stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{url}/query?query=ASK%7B%7D", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, "the server ended"
                time.sleep(0.05)
        yield url
    finally:
        server.kill()
        server.wait()
