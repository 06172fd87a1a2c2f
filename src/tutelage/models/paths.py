"""Names of places inside a model: dotted paths, globs, and which side of a module is meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from torch import nn

from tutelage.recipe.errors import InputError, nearest

STANDARD = ("embedding", "features", "classifier")


@dataclass(frozen=True)
class Place:
    """One side of one module.

    Args:
        path: Dotted path of the module; empty for the model itself.
        side: What is captured.
    """

    path: str
    side: Literal["input", "output"] = "output"

    def __str__(self) -> str:
        return self.path if self.side == "output" else f"{self.path}:{self.side}"


def parse(name: str) -> Place:
    """The place that ``path``, ``path:output`` or ``path:input`` names; the path may still be a glob.

    Raises:
        InputError: What follows the colon is neither.
    """
    path, colon, side = name.partition(":")
    if colon and side not in ("input", "output"):
        raise InputError(f"the tap '{name}' ends in ':{side}'. {nearest(side, ('input', 'output'))}")
    return Place(path, "input" if side == "input" else "output")


def modules_of(module: nn.Module) -> dict[str, nn.Module]:
    """Every module by every path that leads to it, the model itself under the empty path."""
    return dict(module.named_modules(remove_duplicate=False))


def matches(path: str, pattern: str) -> bool:
    """Whether a dotted path fits a pattern: each segment by ``fnmatch``, ``**`` for any number of segments."""
    return _fits(path.split("."), pattern.split("."))


def _fits(path: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_fits(path[i:], pattern[1:]) for i in range(len(path) + 1))
    return bool(path) and fnmatchcase(path[0], pattern[0]) and _fits(path[1:], pattern[1:])


def resolve(pattern: str, paths: Iterable[str], what: str) -> list[str]:
    """The paths that fit a pattern, in the model's order.

    Args:
        pattern: A dotted path or glob.
        paths: Real paths.
        what: How the error calls the pattern, e.g. ``tap``.

    Raises:
        InputError: None fits; the text names the nearest real ones.
    """
    known = list(paths)
    found = [pattern] if pattern in known else [path for path in known if path and matches(path, pattern)]
    if not found:
        raise InputError(
            f"the {what} '{pattern}' matches nothing in the model. {nearest(pattern, filter(None, known))}"
        )
    return found
