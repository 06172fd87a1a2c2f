"""What was read of source files, kept between processes as Python keeps compiled ones: by their time and size."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tutelage.recipe.scan import Module, marked

_FORMAT = 1


def cache_root() -> Path:
    """Where things are kept that can be made again: ``$TUTELAGE_CACHE``, or ``tutelage`` in the user's cache folder."""
    own = os.environ.get("TUTELAGE_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tutelage"


@dataclass(frozen=True)
class Header:
    """A component as its decorator and the first lines of its documentation say it.

    Args:
        called: ``component`` or ``method``.
        values: Positional arguments of the decorator.
        keywords: Its keyword arguments.
        name: The class or function.
        line: Where it stands.
        summary: First line of its docstring.
        heading: First line of its module's.
    """

    called: str
    values: tuple[str, ...]
    keywords: dict[str, str]
    name: str
    line: int
    summary: str
    heading: str


def headers(module: Module) -> Iterator[Header]:
    """The components of a module.

    Raises:
        InputError: An argument of the decorator is not a literal string.
        SyntaxError: The module is not Python.
    """
    for node, called, values, keywords in marked(module):
        summary, heading = (_first(ast.get_docstring(part)) for part in (node, module.tree))
        yield Header(called, values, keywords, node.name, node.lineno, summary, heading)


def _first(doc: str | None) -> str:
    return (doc or "").strip().split("\n")[0]


class Index:
    """Headers by file. Where it cannot be read or written, files are read again: nothing else changes.

    Args:
        name: Tells indices apart, e.g. of two installations.
    """

    def __init__(self, name: str) -> None:
        self.path = cache_root() / "registry" / f"{name}.json"
        self._changed = False
        self._files: dict[str, Any] = {}
        try:
            held = json.loads(self.path.read_text(encoding="utf-8"))
            if isinstance(held, dict) and held.get("format") == _FORMAT:
                self._files = dict(held["files"])
        except (OSError, ValueError, KeyError, TypeError):
            pass

    def read(self, dotted: str, path: Path) -> list[Header]:
        """The components of a file.

        Raises:
            InputError: An argument of a decorator is not a literal string.
            OSError: The file cannot be read.
            SyntaxError: It is not Python.
            UnicodeDecodeError: It is not text.
        """
        status = path.stat()
        stamp = [status.st_mtime_ns, status.st_size]
        held = self._files.get(str(path))
        try:
            if held is not None and held["stamp"] == stamp:
                return [Header(**{**h, "values": tuple(h["values"])}) for h in held["headers"]]
        except (KeyError, TypeError):
            pass
        found = list(headers(Module(dotted, path, path.read_text(encoding="utf-8"))))
        self._files[str(path)] = {"stamp": stamp, "headers": [asdict(h) for h in found]}
        self._changed = True
        return found

    def keep(self) -> None:
        """Write down what was read anew."""
        if not self._changed:
            return
        beside = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex[:8]}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps({"format": _FORMAT, "files": self._files}), encoding="utf-8")
            beside.replace(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                beside.unlink()
