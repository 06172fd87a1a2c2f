"""Errors a person can act on: what, where, what was expected, the nearest valid choice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches


class TutelageError(Exception):
    """Any failure that Tutelage explains; the command line prints its text and never a traceback."""

    exit_code = 1


class RunError(TutelageError):
    """A run started and failed (exit code 1)."""


class InputError(TutelageError):
    """The input is wrong; nothing was started (exit code 2)."""

    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """One mistake in one place.

    Args:
        message: What was found and what was expected.
        path: Keys from the root of the recipe, e.g. ``("train", "optimizer", "lr")``.
        file: File that holds it; ``None`` for a recipe that was built in Python or a command-line override.
        line: 1-based line, or 0 when unknown.
        column: 1-based column, or 0 when unknown.
        hint: What to write instead, e.g. the nearest valid name.
    """

    message: str
    path: tuple[str | int, ...] = ()
    file: str | None = None
    line: int = 0
    column: int = 0
    hint: str = ""

    def __str__(self) -> str:
        where = self.file or "recipe"
        if self.line:
            where += f":{self.line}:{self.column}"
        dotted = ".".join(str(key) for key in self.path)
        text = f"{where}: {dotted + ': ' if dotted else ''}{self.message}"
        return f"{text} {self.hint}" if self.hint else text


@dataclass(eq=False)
class RecipeError(InputError):
    """All the mistakes of a recipe at once."""

    problems: Sequence[Problem] = field(default_factory=tuple)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def nearest(name: object, choices: Iterable[str], *, limit: int = 8) -> str:
    """A hint naming the closest valid choice (all of them when equally close), or the first few when none is close."""
    names = sorted(set(choices))
    word = str(name).lower()
    distances = {choice: _distance(word, choice.lower()) for choice in names}
    least = min(distances.values(), default=0)
    close = [choice for choice in names if distances[choice] == least]
    if least > max(1, len(word) // 3):
        # Not a slip of the finger: perhaps a part of the name, or its words in another order.
        close = [c for c in names if len(word) > 2 and (word in c.lower() or (len(c) > 2 and c.lower() in word))]
        close = close[:3] or get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {' or '.join(repr(choice) for choice in close)}?"
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"Choose from: {', '.join(names[:limit])}{more}." if names else ""


def article(noun: str) -> str:
    """A noun with "a" or "an"."""
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"


def _distance(a: str, b: str) -> int:
    """Edits (insert, delete, replace, swap neighbours) between two words."""
    if abs(len(a) - len(b)) > max(len(a), len(b)) // 2 + 1:
        return max(len(a), len(b))
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row = row, [i]
        for j, y in enumerate(b, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before = above
    return row[-1]
