"""Facts that were made up, whose words tell their time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge

from tutelage.data.dated_files import Fact, told
from tutelage.data.splits import Splits
from tutelage.data.temporal import Dated
from tutelage.recipe.registry import component

_ERAS = {
    "viking": (830, 1010),
    "medieval": (1150, 1320),
    "renaissance": (1460, 1560),
    "baroque": (1640, 1730),
    "napoleonic": (1800, 1815),
    "victorian": (1840, 1900),
    "interwar": (1919, 1938),
    "postwar": (1946, 1965),
    "nineties": (1990, 1999),
}


@component("data", "eras")
@dataclass(frozen=True, kw_only=True)
class Eras(Dated):
    """Facts that were made up: guilds, courts and leagues whose names tell their era, and the years they held.

    No package carries dated facts with texts; these show what a method can do without any file.

    Args:
        facts: How many.
    """

    facts: Annotated[int, Ge(50)] = 400

    def load(self, seed: int) -> Splits:
        """Make, divide and encode the facts; they are the same for every seed of a run."""
        generator = np.random.default_rng(7)
        syllables = (
            "ba",
            "cor",
            "del",
            "fen",
            "gar",
            "hol",
            "im",
            "jor",
            "kes",
            "lun",
            "mar",
            "nor",
            "os",
            "pel",
            "rin",
        )
        bodies, places = ("guild", "court", "league"), ("Bacor", "Delfen", "Garhol")
        relations = ("belongs to", "serves", "leads")
        facts: list[Fact] = []
        for number in range(self.facts):
            era = list(_ERAS)[number % len(_ERAS)]
            low, high = _ERAS[era]
            name = "".join(generator.choice(syllables, 3)).capitalize()
            place = str(generator.choice(places))
            start = int(generator.integers(low, high))
            end = min(start + int(generator.integers(1, max(2, (high - low) // 2))), high)
            body = f"the {era} {generator.choice(bodies)} of {place}"
            facts.append(Fact(f"{name} {number}", str(generator.choice(relations)), body, start, end))
        return self.assemble(facts, [told(fact) for fact in facts], seed, [], "eras")
