"""Files of facts with the time in which they held."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tutelage.recipe.errors import InputError

OPEN = -(2**31)
"""A start or end that is not known."""

_DATE = re.compile(r'^"?(-?[0-9#]{1,4})(?:-([0-9#]{2})(?:-([0-9#]{2}))?)?"?$')
_SPAN_WORDS = {"occurssince": 0, "occursuntil": 1, "occursince": 0, "occuruntil": 1}


@dataclass(frozen=True)
class Fact:
    """Something that held for a while.

    Args:
        head: Name of its head.
        relation: Name of its relation.
        tail: Name of its tail.
        start: When it began, in the data's unit; `OPEN` where that is not known.
        end: When it ended, likewise.
    """

    head: str
    relation: str
    tail: str
    start: int
    end: int


def point(text: str, unit: str = "year") -> int:
    """A date as a number: ``-453-##-##`` is the year −453; a digit that is not known counts as 0, ``####`` as open.

    Args:
        text: Year, or year and month, or a whole date.
        unit: ``year``; ``month`` counts from the year 0; ``day`` as `datetime.date.toordinal` does.

    Raises:
        ValueError: It is no date, or lacks what the unit needs.
    """
    found = _DATE.match(text.strip())
    if found is None:
        raise ValueError(f"'{text}' is no date")
    year, month, day = found.groups()
    if set(year) == {"#"}:
        return OPEN
    number = int(year.replace("#", "0"))
    if unit == "year":
        return number
    if month is None or "#" in month or (unit == "day" and (day is None or "#" in day)):
        raise ValueError(f"'{text}' has no {unit}")
    if unit == "month":
        return 12 * number + int(month) - 1
    return datetime.date(number, int(month), int(day)).toordinal()


def in_words(name: str) -> str:
    """A name without its signs: ``<playsFor>`` is ``plays for``."""
    text = name.strip().strip("<>").replace("_", " ").strip()
    # A name such as McDonald is one word; one that begins small and has capitals inside is several.
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower() if text[:1].islower() and " " not in text else text


def read_facts(path: Path, unit: str = "year", on_bad: str = "refuse") -> tuple[list[Fact], list[str]]:
    """Dated facts of a file.

    A line is head, relation and tail, and then a date; start and end; or a word such as ``occursSince`` and a date,
    with the end of the same fact in another line. Lines without a date are passed over.

    Args:
        path: UTF-8 text, columns kept apart by tabs.
        unit: Of time.
        on_bad: ``refuse`` a line that is none of these, or ``skip`` it.

    Returns:
        Facts in order, those that end before they begin left out, and warnings.

    Raises:
        InputError: The file cannot be read, a line is bad, or no fact has a date.
    """
    facts: list[Fact] = []
    ends: dict[tuple[str, str, str], tuple[list[int], list[int]]] = {}
    undated, bad, turned = 0, list[str](), 0
    try:
        lines = path.expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        cells = [cell.strip() for cell in line.split("\t")]
        if not line.strip():
            continue
        try:
            if len(cells) < 3 or not all(cells[:3]):
                raise ValueError(f"{len(cells)} columns")
            head, relation, tail = (in_words(cell) for cell in cells[:3])
            word = _SPAN_WORDS.get(cells[3].strip("<>").lower()) if len(cells) == 5 else None
            if len(cells) == 3:
                undated += 1
            elif word is not None:
                ends.setdefault((head, relation, tail), ([], []))[word].append(point(cells[4], unit))
            elif len(cells) in (4, 5):
                dates = [point(cell, unit) for cell in cells[3:]]
                facts.append(Fact(head, relation, tail, dates[0], dates[-1]))
            else:
                raise ValueError(f"{len(cells)} columns")
        except ValueError as error:
            if on_bad == "refuse":
                raise InputError(f"{path}, line {number}: {error}; `on_bad: skip` leaves such lines out") from error
            bad.append(f"line {number}: {error}")
    for (head, relation, tail), (starts, stops) in ends.items():
        facts.extend(Fact(head, relation, tail, *span) for span in _paired(starts, stops))
    kept = []
    for fact in facts:
        if OPEN not in (fact.start, fact.end) and fact.start > fact.end:
            turned += 1
        elif fact.start != OPEN or fact.end != OPEN:
            kept.append(fact)
    if not kept:
        raise InputError(f"{path} holds no fact with a date")
    said = []
    if undated:
        said.append(f"{path.name}: {undated} facts without a date were left out.")
    if turned:
        said.append(f"{path.name}: {turned} facts that end before they begin were left out.")
    if bad:
        said.append(f"{path.name}: {len(bad)} lines were left out ({'; '.join(bad[:3])}).")
    return kept, said


def _paired(starts: Sequence[int], stops: Sequence[int]) -> list[tuple[int, int]]:
    """Each start with the first end that is not before it; what finds no partner is open."""
    left, spans = sorted(stops), []
    for start in sorted(starts):
        end = next((stop for stop in left if stop >= start), None)
        if end is not None:
            left.remove(end)
        spans.append((start, OPEN if end is None else end))
    return [*spans, *((OPEN, stop) for stop in left)]


def told(fact: Fact, descriptions: Mapping[str, str] | None = None) -> str:
    """A fact in words: ``{head} {relation} {tail}.``, and the first sentences about both ends (arXiv:2309.16357)."""
    text = f"{fact.head} {fact.relation} {fact.tail}."
    about = [(descriptions or {}).get(name, "") for name in (fact.head, fact.tail)]
    sentences = [part.split(". ")[0].rstrip(".") for part in about if part]
    return f"{text} ({'. '.join(sentences)})" if sentences else text


def descriptions_of(path: Path) -> dict[str, str]:
    """Texts by name, from lines of a name and a text that a tab keeps apart.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        lines = path.expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    pairs = (line.split("\t", 1) for line in lines if "\t" in line)
    return {in_words(name): text.strip() for name, text in pairs}
