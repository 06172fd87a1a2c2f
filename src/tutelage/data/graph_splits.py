"""Dividing the triples of a graph, and what of a test can be read off the training triples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.data.seeds import shuffle
from tutelage.data.triples import HEAD, RELATION, TAIL
from tutelage.recipe.errors import InputError


@dataclass(frozen=True)
class Parts:
    """Positions of the triples of each part, sorted; what is in none of them was left out."""

    train: Tensor
    validation: Tensor
    test: Tensor


def _shares(validation: float, test: float) -> None:
    if validation < 0 or test <= 0 or validation + test >= 1:
        raise InputError(
            f"validation_fraction {validation:g} and test_fraction {test:g}: expected 0 or more, more than 0, and "
            "together less than 1"
        )


def random_parts(triples: Tensor, *, validation: float, test: float, seed: int) -> Parts:
    """Divide at random; every entity and relation keeps a triple to be learnt from.

    Args:
        triples: ``[count, 3]`` int64.
        validation: Fraction for validation.
        test: Fraction for testing.
        seed: Seed of the division.

    Raises:
        InputError: The fractions are none, or too few triples can be spared.
    """
    _shares(validation, test)
    count = len(triples)
    order = shuffle(count, seed)
    needed = torch.zeros(count, dtype=torch.bool)
    for column in (HEAD, RELATION, TAIL):
        values = triples[order, column] if column == RELATION else triples[order][:, [HEAD, TAIL]].flatten()
        size = int(values.max()) + 1
        first = torch.full((size,), len(values)).scatter_reduce_(0, values, torch.arange(len(values)), "amin")
        first = first[first < len(values)]
        needed[order[first if column == RELATION else first // 2]] = True
    free = order[~needed[order]]
    tested, validated = round(count * test), round(count * validation)
    if tested + validated > len(free):
        raise InputError(
            f"{tested + validated} triples are asked for testing and validation, but only {len(free)} of {count} can "
            "be spared: each entity and relation needs one to be learnt from. Ask for smaller fractions"
        )
    out = torch.cat([free[:tested], free[tested : tested + validated]])
    rest = torch.ones(count, dtype=torch.bool)
    rest[out] = False
    return Parts(rest.nonzero().flatten(), free[tested : tested + validated].sort().values, free[:tested].sort().values)


def inductive_parts(triples: Tensor, *, validation: float, test: float, seed: int, least: int = 1) -> Parts:
    """Keep entities out of training, so that each test triple has one that nothing was learnt of.

    Entities are taken in seeded order until their triples make up the fraction; one is passed over where a relation
    would keep fewer than ``least`` triples or another entity none (after BLP, arXiv:2010.03496, section 4.1). Triples
    that join a test and a validation entity are tests.

    Args:
        triples: ``[count, 3]`` int64.
        validation: Fraction of the triples for validation.
        test: Fraction for testing.
        seed: Seed of the choice.
        least: Training triples that each relation keeps.

    Raises:
        InputError: The fractions are none, or so many entities cannot be spared.
    """
    _shares(validation, test)
    array, count = triples.numpy(), len(triples)
    entities = int(max(array[:, HEAD].max(), array[:, TAIL].max())) + 1
    ends = np.concatenate([array[:, HEAD], array[:, TAIL]])
    order = np.argsort(ends, kind="stable")
    offsets = np.searchsorted(ends[order], np.arange(entities + 1))
    degree = np.bincount(array[:, HEAD], minlength=entities) + np.bincount(
        array[array[:, HEAD] != array[:, TAIL], TAIL], minlength=entities
    )
    per_relation = np.bincount(array[:, RELATION])
    part = np.zeros(count, dtype=np.int8)
    waiting = iter(shuffle(entities, seed).tolist())
    for code, wanted in ((2, round(count * test)), (1, round(count * validation))):
        taken = 0
        while taken < wanted:
            entity = next(waiting, None)
            if entity is None:
                raise InputError(
                    f"an inductive split found {taken} of the {wanted} triples that were asked for: no further entity "
                    "can be spared. Ask for smaller fractions"
                )
            mine = np.unique(order[offsets[entity] : offsets[entity + 1]] % count)
            mine = mine[part[mine] == 0]
            relations, times = np.unique(array[mine, RELATION], return_counts=True)
            others = np.concatenate([array[mine, HEAD], array[mine, TAIL]])
            others, lost = np.unique(others[others != entity], return_counts=True)
            if not len(mine) or (per_relation[relations] - times < least).any() or (degree[others] - lost < 1).any():
                continue
            part[mine], taken = code, taken + len(mine)
            per_relation[relations] -= times
            degree[others] -= lost
            degree[entity] = 0
    return Parts(*(torch.from_numpy(np.flatnonzero(part == code)) for code in (0, 1, 2)))


def temporal_parts(times: NDArray[np.int64], *, validation: float, test: float) -> Parts:
    """Divide by time: the earliest are learnt from, the latest are tests; facts of one moment stay together.

    Args:
        times: ``[count]`` when each fact began.
        validation: Fraction for validation, between the two.
        test: Fraction for testing.

    Raises:
        InputError: The fractions are none, or all facts are of one moment.
    """
    _shares(validation, test)
    ordered = np.sort(times)
    count = len(ordered)
    late = ordered[min(count - 1, int(np.ceil(count * (1 - test))))]
    middle = ordered[int(np.ceil(count * (1 - test - validation)))] if validation else late
    if middle <= ordered[0]:
        raise InputError("the facts cannot be divided by time: too many are of the earliest moment")
    train, tested = times < middle, times >= late
    return Parts(*(torch.from_numpy(np.flatnonzero(mask)) for mask in (train, ~train & ~tested, tested)))


@dataclass(frozen=True)
class Echo:
    """Two relations of which one says what the other does.

    Args:
        kind: ``duplicate``, ``inverse``, or ``symmetric`` for one that is its own inverse.
        relation: One.
        other: The other; the same for a symmetric one.
        share: Of the larger one's pairs, how many the other has too.
        tests: Test triples that a training triple repeats in this way.
    """

    kind: str
    relation: int
    other: int
    share: float
    tests: int


def echoes(train: Tensor, test: Tensor, relations: int, threshold: float = 0.8) -> list[Echo]:
    """Relations whose training triples give test triples away (Toutanova and Chen 2015; Dettmers et al. 2018).

    Args:
        train: ``[count, 3]`` int64.
        test: Likewise.
        relations: Number of relations.
        threshold: Share of common pairs from which on two relations say the same, in (0, 1].

    Returns:
        Those that give any test triple away, most first.
    """
    from scipy.sparse import csr_matrix

    if not len(train) or not len(test):
        return []
    span = int(max(train[:, [HEAD, TAIL]].max(), test[:, [HEAD, TAIL]].max())) + 1

    def pairs(triples: NDArray[np.int64], head: int, tail: int) -> NDArray[np.int64]:
        return triples[:, head] * span + triples[:, tail]

    learnt, asked = np.unique(train.numpy(), axis=0), np.unique(test.numpy(), axis=0)
    whole = np.unique(np.concatenate([learnt, asked]), axis=0)
    found: list[Echo] = []
    forward, backward = pairs(whole, HEAD, TAIL), pairs(whole, TAIL, HEAD)
    columns = np.unique(np.concatenate([forward, backward]))

    def matrix(rows: NDArray[np.int64], keys: NDArray[np.int64]) -> csr_matrix:
        place = np.searchsorted(columns, keys)
        return csr_matrix((np.ones(len(rows), np.int64), (rows, place)), shape=(relations, len(columns)))

    sizes = np.bincount(whole[:, RELATION], minlength=relations)
    of_test = matrix(asked[:, RELATION], pairs(asked, HEAD, TAIL))
    for turned in (False, True):
        other = matrix(whole[:, RELATION], backward if turned else forward)
        common = (matrix(whole[:, RELATION], forward) @ other.T).tocoo()
        away = of_test @ matrix(learnt[:, RELATION], pairs(learnt, *((TAIL, HEAD) if turned else (HEAD, TAIL)))).T
        for one, two, shared in zip(common.row, common.col, common.data, strict=True):
            if one > two or (one == two and not turned):
                continue
            share = shared / max(sizes[one], sizes[two])
            tests = int(away[one, two]) + (int(away[two, one]) if one != two else 0)
            if share >= threshold and tests:
                kind = "symmetric" if one == two else "inverse" if turned else "duplicate"
                found.append(Echo(kind, int(one), int(two), float(share), tests))
    return sorted(found, key=lambda echo: (-echo.tests, echo.relation, echo.other))


def leaks(train: Tensor, test: Tensor, names: Sequence[str], threshold: float = 0.8) -> list[str]:
    """Sentences about what of a test the training triples give away; empty where they give away nothing."""
    said = []
    both = torch.cat([train.unique(dim=0), test.unique(dim=0)])
    repeated = len(both) - len(both.unique(dim=0))
    if repeated:
        said.append(f"{repeated} test triples are training triples too: a model that remembers them looks better.")
    found = echoes(train, test, len(names), threshold)
    for echo in found[:5]:
        about = {
            "symmetric": f"'{names[echo.relation]}' is its own inverse",
            "inverse": f"'{names[echo.relation]}' and '{names[echo.other]}' are inverses",
            "duplicate": f"'{names[echo.relation]}' and '{names[echo.other]}' join the same pairs",
        }[echo.kind]
        said.append(f"{about} ({echo.share:.0%} of their pairs): training triples give {echo.tests} test triples away.")
    if len(found) > 5:
        rest = sum(echo.tests for echo in found[5:])
        said.append(f"{len(found) - 5} further pairs of relations give {rest} test triples away.")
    return said
