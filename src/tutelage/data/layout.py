"""Regions of a page in its stream of words: where a title, a table or a list begins and ends (arXiv:2406.08226)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Box = tuple[float, float, float, float]


class Word(NamedTuple):
    """A word on a page.

    Args:
        text: What it says.
        box: Left, top, right, bottom.
    """

    text: str
    box: Box


class Region(NamedTuple):
    """A part of a page's layout.

    Args:
        label: What it is, e.g. ``Title``.
        box: Left, top, right, bottom.
    """

    label: str
    box: Box


def overlap(first: Box, second: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    both = max(0.0, width) * max(0.0, height)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return both / (areas - both) if areas > both else 0.0


def inside(inner: Box, outer: Box) -> bool:
    """Whether a box lies in another."""
    return inner[0] >= outer[0] and inner[1] >= outer[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def tagged(
    words: Sequence[Word], regions: Sequence[Region], *, ignore: Sequence[str] = ("Text",), least: float = 0.3
) -> list[str]:
    """The words with ``<Label>`` before the first and ``</Label>`` after the last word of each region.

    A word belongs to a region where it lies inside, or overlaps it by more than ``least``. Tags of several regions at
    one place are nested in the order of the regions.

    Args:
        words: In reading order.
        regions: What was found on the page.
        ignore: Labels that are not marked.
        least: Overlap from which a word that is not inside belongs too.
    """
    before: dict[int, list[str]] = {}
    after: dict[int, list[str]] = {}
    for region in regions:
        if region.label in ignore:
            continue
        own = [i for i, w in enumerate(words) if inside(w.box, region.box) or overlap(w.box, region.box) > least]
        if own:
            before.setdefault(own[0], []).append(f"<{region.label}>")
            after.setdefault(own[-1], []).insert(0, f"</{region.label}>")
    return [text for i, word in enumerate(words) for text in (*before.get(i, ()), word.text, *after.get(i, ()))]


def laid_out(words: Sequence[Word], *, character: float, line: float) -> str:
    """The words as text that keeps their place: as many spaces and lines between them as there is room on the page.

    Args:
        words: On one page.
        character: Width of a character.
        line: Height of a line.
    """
    rows: dict[int, list[Word]] = {}
    for word in words:
        rows.setdefault(round(word.box[1] / line), []).append(word)
    lines = []
    for place in range(max(rows, default=-1) + 1):
        text = ""
        for word in sorted(rows.get(place, ()), key=lambda w: w.box[0]):
            start = round(word.box[0] / character)
            # At least one space, or two words would become one.
            text = text.ljust(max(start, len(text) + bool(text))) + word.text
        lines.append(text)
    return "\n".join(lines)
