"""What is wrong with some samples: counted, the first ten named, then refused or left out as the recipe says."""

from __future__ import annotations

from typing import Literal

from tutelage.recipe.errors import InputError

OnBad = Literal["refuse", "skip"]
_NAMED = 10


class Faults:
    """A tally of samples that cannot be used.

    Args:
        on_bad: ``refuse`` the data, or ``skip`` such samples and say so.
    """

    def __init__(self, on_bad: OnBad) -> None:
        self.on_bad = on_bad
        self.count = 0
        self.first: list[str] = []

    def add(self, where: str, why: str) -> None:
        """Note one sample, e.g. ``add("train.csv row 7", "feature 'width' is missing")``."""
        self.count += 1
        if len(self.first) < _NAMED:
            self.first.append(f"{where}: {why}")

    def settle(self, good: int) -> list[str]:
        """Warnings for what is left out; nothing when all samples are good.

        Args:
            good: Number of samples that can be used.

        Raises:
            InputError: Some are bad and the recipe refuses them, or none is left.
        """
        if not self.count:
            return []
        more = f"; and {self.count - _NAMED} more" if self.count > _NAMED else ""
        named = "; ".join(self.first) + more
        if self.on_bad == "refuse":
            raise InputError(
                f"{self.count} of {good + self.count} samples cannot be used: {named}. Correct them, or leave "
                "them out with "
                "data.on_bad=skip"
            )
        if not good:
            raise InputError(f"none of {self.count} samples can be used: {named}")
        return [f"{self.count} of {good + self.count} samples were left out: {named}"]
