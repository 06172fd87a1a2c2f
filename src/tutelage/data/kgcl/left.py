"""Triples that a difference has still to tell."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyoxigraph import Triple


class Left(set[Triple]):
    """Triples that are still to be told, found by their subject.

    Args:
        triples: All of them.
    """

    def __init__(self, triples: Iterable[Triple]) -> None:
        super().__init__(triples)
        self._by: dict[Any, list[Triple]] = {}
        for x in sorted(self, key=str):
            self._by.setdefault(x.subject, []).append(x)

    def of(self, subject: Any) -> list[Triple]:
        """What is left of a subject, in order."""
        return [x for x in self._by.get(subject, ()) if x in self]
