"""Queries in a process of their own, so that one which never ends can be stopped."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tutelage.data.rdf.graph import Answer, Cell, ask
from tutelage.data.rdf.terms import Prefixes
from tutelage.recipe.errors import InputError, RunError

_MEMORY = 4 << 30


def ask_apart(store: Path, text: str, prefixes: Prefixes, *, seconds: float, rows: int) -> Answer:
    """Ask a store on disk.

    Args:
        store: Folder of the store.
        text: SPARQL.
        prefixes: Known without being declared.
        seconds: After which it is stopped; 0 for never.
        rows: How many to fetch at most.

    Raises:
        InputError: It is no query, or took too long.
    """
    head: dict[str, Any] | None = None
    out: list[tuple[Cell, ...]] = []
    request = {"do": "query", "store": str(store), "text": text, "prefixes": prefixes.own, "rows": rows}
    for line in _lines(request, seconds):
        if head is None:
            head = line
        else:
            out.extend(tuple(row) for row in line["rows"])
    assert head is not None
    return Answer(head["kind"], tuple(head["variables"]), out, head["boolean"], head["cut"])


def update_apart(store: Path, text: str, prefixes: Prefixes, *, seconds: float) -> None:
    """Change a store on disk by SPARQL; one transaction."""
    request = {"do": "update", "store": str(store), "text": text, "prefixes": prefixes.own, "rows": 0}
    for _ in _lines(request, seconds):
        pass


def _lines(request: dict[str, Any], seconds: float) -> Iterator[dict[str, Any]]:
    # Only the packages' folders of this process: the other one must not run what lies about where the user works.
    source = str(Path(__file__).resolve().parents[3])
    code = f"import sys; sys.path.insert(0, {source!r}); from tutelage.data.rdf.asking import serve; serve()"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    deadline = time.monotonic() + seconds if seconds else None
    try:
        process.stdin.write(json.dumps(request).encode())
        process.stdin.close()
        done = False
        for line in _before(deadline, process.stdout, seconds):
            if "error" in line:
                raise InputError(line["error"])
            if line.get("end"):
                done = True
                break
            yield line
        if not done:
            said = process.stderr.read().decode(errors="replace").strip().splitlines()
            if process.wait() < 0 or any("memory" in text for text in said):
                raise InputError(
                    f"the query needed more than {_MEMORY >> 30} GiB of memory and was stopped; ask for less"
                )
            raise RunError(f"the query failed: {said[-1] if said else 'it gave no reason'}")
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def _before(deadline: float | None, stream: IO[bytes], seconds: float) -> Iterator[dict[str, Any]]:
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and (left <= 0 or not selector.select(left)):
                raise InputError(
                    f"the query was stopped after {seconds:g} s, and nothing was changed; ask for less, or allow more "
                    "with `--seconds`"
                )
            data = os.read(stream.fileno(), 1 << 20)
            if not data:
                return
            *whole, rest = (rest + data).split(b"\n")
            yield from (json.loads(line) for line in whole)


def serve() -> None:
    """What the other process does: answer one request."""
    import resource

    from pyoxigraph import Store

    request = json.loads(sys.stdin.buffer.read())
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    prefixes = Prefixes(request["prefixes"])
    try:
        if request["do"] == "update":
            store = Store(request["store"])
            try:
                store.update(request["text"], prefixes=prefixes.spaces)
            except SyntaxError as error:
                raise InputError(f"no SPARQL update: {error}") from error
            store.flush()
        else:
            found = ask(Store.read_only(request["store"]), request["text"], prefixes, request["rows"])
            _say({"kind": found.kind, "variables": found.variables, "boolean": found.boolean, "cut": found.cut})
            for start in range(0, len(found.rows), 1000):
                _say({"rows": found.rows[start : start + 1000]})
        _say({"end": True})
    except InputError as error:
        _say({"error": str(error)})
    except OSError as error:
        full = "No space left" in str(error)
        _say({"error": f"{'the disk is full' if full else error}; the graph is as it was"})


def _say(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()
