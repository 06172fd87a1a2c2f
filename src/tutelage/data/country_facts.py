"""Questions about countries, made from the table that the package countryinfo carries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tutelage.data.splits import Splits
from tutelage.data.text_pool import TextPool
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component

QUESTIONS = {
    "capital": ("What is the capital of {}?", "Name the capital city of {}.", "Which city is the capital of {}?"),
    "region": ("Which continent is {} on?", "On which continent does {} lie?", "Name the continent of {}."),
    "subregion": ("In which part of the world is {}?", "Which region does {} belong to?", "Name the region of {}."),
    "demonym": ("What are people from {} called?", "Name a person from {}.", "What is the demonym of {}?"),
    "currencies": ("Which currency is used in {}?", "What is the currency code of {}?", "Name the currency of {}."),
}
"""By fact, three ways to ask for it."""


@component("data", "country-facts")
@dataclass(frozen=True, kw_only=True)
class CountryFacts(TextPool):
    """Short questions and answers about 250 countries, derived from the package countryinfo 1.0.1 (MIT).

    Each fact is asked for in three ways. All ways to ask for one fact of one country are in the same part, unless
    ``known`` says that training sees the fact and testing only another way to ask.

    Args:
        facts: Which facts, of capital, region, subregion, demonym and currencies.
        known: Whether every fact is trained on, so that testing asks for it in words that training has not.
    """

    facts: tuple[str, ...] = ("capital", "region", "subregion", "demonym", "currencies")
    known: bool = False

    def load(self, seed: int) -> Splits:
        """Make, tokenise and divide the questions.

        Args:
            seed: The run's seed, used only when ``split_seed`` is ``None``.

        Raises:
            InputError: The package is missing, or there is no such fact.
        """
        rows, groups = questions(self.facts)
        groups = [f"{group} {way % 3}" if self.known else group for way, group in enumerate(groups)]
        return self.divided(rows, seed, groups=groups, name="country-facts")


def questions(facts: tuple[str, ...]) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows with ``prompt`` and ``completion``, and the fact that each is about.

    Raises:
        InputError: The package is missing, or there is no such fact.
    """
    unknown = [fact for fact in facts if fact not in QUESTIONS]
    if unknown:
        raise InputError(f"country-facts: there is no fact '{unknown[0]}'; choose among {', '.join(QUESTIONS)}")
    try:
        from countryinfo import all_countries
    except ImportError as error:
        raise InputError("country-facts come with a package: pip install countryinfo==1.0.1") from error
    rows, groups = [], []
    for entry in sorted((one.info() for one in all_countries()), key=lambda one: str(one.get("name"))):
        name = entry.get("name")
        for fact in facts:
            value = entry.get(fact)
            value = value[0] if isinstance(value, list) and value else value
            if not name or not isinstance(value, str) or not value.strip():
                continue
            for words in QUESTIONS[fact]:
                rows.append({"prompt": f"Question: {words.format(name)}\nAnswer:", "completion": f" {value}."})
                groups.append(f"{name}: {fact}")
    return rows, groups
