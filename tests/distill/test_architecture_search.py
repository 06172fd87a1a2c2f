"""Search: the space, one mutation at a time, ageing, budgets."""

from __future__ import annotations

import random

from tutelage.distill.parts.architecture_search import Space, at_random, evolve
from tutelage.recipe.spec import Spec

SPACE = Space(
    Spec("model", "resnet", {"depth": 20, "width": 16, "blocks": None}),
    {"width": (4, 8, 16), "blocks.0": (1, 3), "blocks.1": (1, 3), "blocks.2": (1, 3)},
)


def settings(**changes):
    usual = {"population": 6, "tournament": 3, "top": 2, "iterations": 200, "seconds": None, "seed": 0}
    return {**usual, **changes}


def test_a_choice_is_a_model():
    assert len(SPACE) == 24 == len(set(SPACE.every()))
    spec = SPACE.spec((1, 1, 0, 1))
    assert (spec.args["width"], tuple(spec.args["blocks"]), spec.args["depth"]) == (8, (3, 1, 3), 20)


def test_a_mutation_changes_one_thing():
    chance = random.Random(0)
    for choice in SPACE.every():
        other = SPACE.mutate(choice, chance)
        assert sum(a != b for a, b in zip(choice, other, strict=True)) == 1
    single = Space(SPACE.base, {"width": (4,)})
    assert single.mutate((0,), chance) == (0,)


def test_evolution_climbs_where_chance_does_not():
    """A space of 4^8 choices in which each right value helps a little: both see 300 of them."""
    large = Space(SPACE.base, {f"blocks.{i}": (1, 2, 3, 4) for i in range(8)})

    def fitness(choices):
        return [float(sum(choice)) for choice in choices]

    evolved = evolve(large, lambda _: True, fitness, **settings(population=20, iterations=300, tournament=8, top=3))
    drawn = at_random(large, lambda _: True, iterations=300, seconds=None, seed=0)
    assert max(fitness(evolved)) > max(fitness(drawn))
    assert max(fitness(evolved)) >= 22


def test_the_oldest_dies_and_parents_are_among_the_best():
    asked = []

    def fitness(choices):
        asked.append(list(choices))
        return [float(sum(choice)) for choice in choices]

    evolve(SPACE, lambda _: True, fitness, **settings(population=3, tournament=3, top=1, iterations=9))
    alone = [choices[0] for choices in asked if len(choices) == 1]
    for drawn, child in ((asked[i], asked[i + 1][0]) for i in range(3, len(asked) - 1, 2)):
        best = max(drawn, key=sum)
        assert sum(a != b for a, b in zip(best, child, strict=True)) == 1
        born = alone.index(child) if alone.count(child) == 1 else None
        if born is not None:
            assert set(drawn) <= set(alone[max(0, born - 3) : born])


def test_budgets_and_repetition():
    affordable = {choice for choice in SPACE.every() if choice[0] == 0}

    def fitness(choices):
        return [0.0 for _ in choices]

    found = [evolve(SPACE, affordable.__contains__, fitness, **settings(seed=s)) for s in (3, 3, 4)]
    assert found[0] == found[1] != found[2]
    assert set(found[0]) <= affordable
    assert set(at_random(SPACE, affordable.__contains__, iterations=5, seconds=None, seed=0)) <= affordable
    assert len(at_random(SPACE, affordable.__contains__, iterations=100, seconds=None, seed=0)) == 8
    assert evolve(SPACE, lambda _: False, fitness, **settings()) == []
    assert len(evolve(SPACE, lambda _: True, fitness, **settings(seconds=1e-9))) == 1
