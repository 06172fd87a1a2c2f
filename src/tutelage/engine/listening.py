"""How a run tells what it is doing, without knowing to whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Listener(Protocol):
    """Hears of progress; the command line shows it as bars."""

    def begin(self, task: str, total: int, done: int = 0) -> None:
        """A task of ``total`` steps begins, ``done`` of them done earlier."""

    def advance(self, task: str, done: int, terms: Mapping[str, float]) -> None:
        """``done`` steps are done; the latest numbers."""

    def end(self, task: str) -> None:
        """The task is finished."""

    def note(self, text: str) -> None:
        """Something worth reading happened."""


class Silence:
    """Listens to nothing."""

    def begin(self, task: str, total: int, done: int = 0) -> None:
        """Ignored."""

    def advance(self, task: str, done: int, terms: Mapping[str, float]) -> None:
        """Ignored."""

    def end(self, task: str) -> None:
        """Ignored."""

    def note(self, text: str) -> None:
        """Ignored."""
