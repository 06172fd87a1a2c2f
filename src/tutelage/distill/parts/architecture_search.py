"""Search among a model's own arguments: all of them, at random, or by ageing evolution (arXiv:1802.01548)."""

from __future__ import annotations

import itertools
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.distill.base import mistake
from tutelage.recipe.checking import Checker
from tutelage.recipe.errors import Problem
from tutelage.recipe.registry import registry
from tutelage.recipe.spec import Spec, plain
from tutelage.recipe.yaml_source import from_python

Choice = tuple[int, ...]


@dataclass(frozen=True)
class Space:
    """Values that a model's arguments may take.

    Args:
        base: The model; what is not chosen is as in it.
        options: Values by argument; ``blocks.0`` means the first entry of the argument ``blocks``, a list.
    """

    base: Spec
    options: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        size = 1
        for values in self.options.values():
            size *= len(values)
        return size

    def values(self, choice: Choice) -> dict[str, Any]:
        """What was chosen, by key."""
        return {key: values[i] for (key, values), i in zip(self.options.items(), choice, strict=True)}

    def spec(self, choice: Choice) -> Spec:
        """The model that a choice makes."""
        return spec_of(self.base, self.values(choice))

    def every(self) -> Iterator[Choice]:
        """All choices, in order."""
        yield from itertools.product(*(range(len(values)) for values in self.options.values()))

    def draw(self, chance: random.Random) -> Choice:
        """Any of them, each as likely."""
        return tuple(chance.randrange(len(values)) for values in self.options.values())

    def mutate(self, choice: Choice, chance: random.Random) -> Choice:
        """The same but for one argument, whose value is another."""
        loose = [i for i, values in enumerate(self.options.values()) if len(values) > 1]
        if not loose:
            return choice
        place = chance.choice(loose)
        count = len(tuple(self.options.values())[place])
        other = (choice[place] + chance.randrange(1, count)) % count
        return (*choice[:place], other, *choice[place + 1 :])


def spec_of(base: Spec, values: Mapping[str, Any]) -> Spec:
    """A model with other arguments; ``blocks.0`` is the first entry of the list ``blocks``."""
    args: dict[str, Any] = {}
    for key, value in values.items():
        name, _, place = key.partition(".")
        if not place:
            args[name] = value
            continue
        own = list(args.get(name, base.args.get(name)) or ())
        own += [1] * (int(place) + 1 - len(own))
        own[int(place)] = value
        args[name] = tuple(own)
    return base.with_(**args)


def evolve(
    space: Space,
    affordable: Callable[[Choice], bool],
    fitness: Callable[[Sequence[Choice]], Sequence[float]],
    *,
    population: int,
    tournament: int,
    top: int,
    iterations: int,
    seconds: float | None,
    seed: int,
) -> list[Choice]:
    """Ageing evolution: a parent from the best of a random few, one mutation, and the oldest dies.

    Args:
        space: What is searched.
        affordable: Whether a choice is within the budget.
        fitness: Scores of choices, higher is better; it remembers what it has scored.
        population: Random choices to begin with.
        tournament: How many are drawn for a parent.
        top: How many of the best of these may be the parent.
        iterations: Choices that are made in all, repeated ones included.
        seconds: Time after which it ends, if any.
        seed: Seed of its chance.

    Returns:
        The choices seen, each once, in the order they were seen in; empty where none is affordable.
    """
    chance, end = random.Random(seed), None if seconds is None else time.monotonic() + seconds
    alive: deque[Choice] = deque()
    seen: dict[Choice, None] = {}

    def add(choice: Choice) -> None:
        alive.append(choice)
        seen.setdefault(choice)
        fitness([choice])

    tries = 0
    # A budget may leave little of a space, so that drawing is not tried forever.
    while len(alive) < population and tries < 100 * population and not _over(end, alive):
        choice = space.draw(chance)
        tries += 1
        if affordable(choice):
            add(choice)
    for _ in range(max(0, iterations - len(alive)) if alive else 0):
        if _over(end, alive) or len(seen) == len(space):
            break
        drawn = chance.sample(list(alive), min(tournament, len(alive)))
        scores = fitness(drawn)
        best = sorted(range(len(drawn)), key=lambda i: -scores[i])[:top]
        child = space.mutate(drawn[chance.choice(best)], chance)
        if affordable(child):
            add(child)
            if len(alive) > population:
                alive.popleft()
    return list(seen)


def at_random(
    space: Space, affordable: Callable[[Choice], bool], *, iterations: int, seconds: float | None, seed: int
) -> list[Choice]:
    """Affordable choices in random order, each once, at most as many as there are iterations."""
    chance, end = random.Random(seed), None if seconds is None else time.monotonic() + seconds
    if len(space) <= 10 * iterations:
        order: Iterator[Choice] = iter(chance.sample(list(space.every()), len(space)))
    else:
        order = (space.draw(chance) for _ in range(10 * iterations))
    seen: dict[Choice, None] = {}
    for choice in order:
        if len(seen) >= iterations or _over(end, seen):
            break
        if affordable(choice):
            seen.setdefault(choice)
    return list(seen)


def _over(end: float | None, found: Any) -> bool:
    # Something has to be found however little time there is.
    return end is not None and bool(found) and time.monotonic() >= end


def unfit_values(student: Spec, options: Mapping[str, Sequence[Any]], of: Spec) -> Iterator[Problem]:
    """Values that the student's model does not take, each by itself."""
    for key, values in options.items():
        for value in values:
            described = plain(spec_of(student, {key: value}).to_dict())
            described = {k: v for k, v in described.items() if k not in student.extras or k in student.args}
            checker = Checker(registry())
            checker.component("model", from_python(described), ("method", "space", key))
            for problem in checker.problems:
                text = f"space.{key} holds {value!r}: {problem.message}"
                yield mistake(of, text, problem.hint, "method", "space", key)
            if checker.problems:
                return
