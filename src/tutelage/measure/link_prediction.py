"""Ranks of true entities among candidates, and what is made of them: MRR, Hits@k and AMRI, each with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from tutelage.data.triples import HEAD, RELATION, SIDES, TAIL, Known, Side
from tutelage.measure.bootstrap import Floats, interval, mean_interval
from tutelage.measure.number import Number

Ties = Literal["realistic", "optimistic", "pessimistic"]
# Bytes of scores that exist at once: what stays in a processor's cache; but of sixteen queries in any case, for which a
# product of matrices is worth it.
BUDGET = 1 << 17
_ROWS = 16


class Ranking(Protocol):
    """A model that scores candidates."""

    def rank_scores(self, side: Side, triples: Tensor, candidates: Tensor | None = None) -> Tensor:
        """``[batch, n]`` or ``[batch, entities]`` scores, higher for more plausible."""
        ...


@dataclass(frozen=True, eq=False)
class Ranks:
    """Where the true entities of some triples came, on each side that was asked for.

    Args:
        sides: What was asked for.
        better: ``[triples, sides]`` int64: candidates with a higher score.
        equal: ``[triples, sides]`` int64: other candidates with the same score.
        candidates: ``[triples, sides]`` int64: how many there were, the true one among them.
        relations: ``[triples]`` int64.
    """

    sides: tuple[Side, ...]
    better: Tensor
    equal: Tensor
    candidates: Tensor
    relations: Tensor

    def __len__(self) -> int:
        return len(self.relations)

    def values(self, ties: Ties = "realistic") -> Tensor:
        """``[triples, sides]`` float64 ranks from 1 on.

        Args:
            ties: A candidate with the same score counts as behind (``optimistic``), before (``pessimistic``), or half
                (``realistic``), which is the mean of the two.
        """
        share = {"optimistic": 0.0, "realistic": 0.5, "pessimistic": 1.0}[ties]
        return 1.0 + self.better.double() + share * self.equal.double()

    def only(self, side: Side) -> Ranks:
        """Those of one side.

        Raises:
            ValueError: It was not asked for.
        """
        at = [self.sides.index(side)]
        return Ranks((side,), self.better[:, at], self.equal[:, at], self.candidates[:, at], self.relations)

    def of(self, triples: Tensor) -> Ranks:
        """Those of some triples: a mask, or positions."""
        parts = (part[triples] for part in (self.better, self.equal, self.candidates, self.relations))
        return Ranks(self.sides, *parts)

    def mrr(self, ties: Ties = "realistic") -> Number:
        """Mean reciprocal rank; triples are resampled whole, both sides together."""
        return mean_interval(self.reciprocal(ties).numpy())

    def reciprocal(self, ties: Ties = "realistic") -> Tensor:
        """``[triples]`` reciprocal ranks, means over the sides."""
        return self.values(ties).reciprocal().mean(1)

    def within(self, k: int, ties: Ties = "realistic") -> Tensor:
        """``[triples]`` share of the sides whose rank is at most ``k``."""
        return (self.values(ties) <= k).double().mean(1)

    def hits(self, k: int, ties: Ties = "realistic") -> Number:
        """Share of ranks of at most ``k``."""
        return mean_interval(self.within(k, ties).numpy())

    def mean_rank(self, ties: Ties = "realistic") -> Number:
        """The mean rank."""
        return mean_interval(self.values(ties).mean(1).numpy())

    def amri(self, ties: Ties = "realistic") -> Number:
        """Adjusted mean rank index (arXiv:2002.06914, equation 4): 1 for the best, 0 for chance, below it for worse."""
        ranks = self.values(ties).mean(1).numpy()
        expected = ((self.candidates.double() + 1.0) / 2.0).mean(1).numpy()
        if float(expected.mean()) <= 1.0:
            return Number(float("nan"), None, None, len(self))

        def statistic(weights: Floats) -> Floats:
            total = weights.sum(1)
            found: Floats = 1.0 - (weights @ ranks / total - 1.0) / (weights @ expected / total - 1.0)
            return found

        return interval(statistic, len(self))

    def summary(self, hits: Sequence[int] = (1, 3, 10), ties: Ties = "realistic") -> dict[str, Number]:
        """The usual numbers by name."""
        found = {"mrr": self.mrr(ties), **{f"hits@{k}": self.hits(k, ties) for k in hits}}
        return {**found, "amri": self.amri(ties), "mean_rank": self.mean_rank(ties)}

    def by_type(self, types: Tensor, names: Sequence[str]) -> Mapping[str, Ranks]:
        """Ranks apart by kind of relation; kinds that do not occur are left out.

        Args:
            types: ``[relations]`` int64 places in ``names``.
            names: Of the kinds.
        """
        mine = types[self.relations]
        return {name: self.of(mine == place) for place, name in enumerate(names) if bool((mine == place).any())}


def rank(
    model: Ranking,
    triples: Tensor,
    known: Known | None,
    *,
    entities: int,
    sides: Sequence[Side] = SIDES,
    budget: int = BUDGET,
) -> Ranks:
    """Rank each true entity among all entities.

    A query that several triples share is scored once. Scores exist for as many queries as fit the budget, and what is
    filtered is counted instead of being struck out, so that memory depends neither on the number of triples nor on how
    many answers are known.

    Args:
        model: Scores candidates.
        triples: ``[count, 3]`` int64.
        known: Facts whose entities do not compete with the true one (the filtered setting); ``None`` for unfiltered.
        entities: How many there are.
        sides: What is asked for.
        budget: Bytes of scores that exist at once.

    Raises:
        ValueError: There are no triples, or a score is not a number.
    """
    if not len(triples):
        raise ValueError("there are no triples to rank")
    # A model may have to make its entities first; it makes them once.
    with getattr(model, "holding", nullcontext)():
        columns = [_side(model, triples, known, side, entities, budget) for side in sides]
    better, equal, candidates = (torch.stack(part, 1) for part in zip(*columns, strict=True))
    return Ranks(tuple(sides), better, equal, candidates, triples[:, RELATION])


def _side(
    model: Ranking, triples: Tensor, known: Known | None, side: Side, entities: int, budget: int
) -> tuple[Tensor, Tensor, Tensor]:
    given, asked = (HEAD, TAIL) if side == "tail" else (TAIL, HEAD)
    key = triples[:, RELATION] * entities + triples[:, given]
    order = key.argsort(stable=True)
    _, counts = torch.unique_consecutive(key[order], return_counts=True)
    starts = counts.cumsum(0) - counts
    better, equal = torch.empty(len(triples), dtype=torch.long), torch.empty(len(triples), dtype=torch.long)
    others = torch.zeros(len(triples), dtype=torch.long)
    step = max(_ROWS, budget // (4 * entities))
    for at in range(0, len(counts), step):
        group = counts[at : at + step]
        mine = order[int(starts[at]) : int(starts[at]) + int(group.sum())]
        queries = triples[order[starts[at : at + step]]]
        scores = model.rank_scores(side, queries)
        row = torch.arange(len(group)).repeat_interleave(group)
        true = triples[mine, asked]
        mark = scores[row, true]
        if bool(mark.isnan().any()):
            raise ValueError(f"the score of a true {side} is not a number: the model has diverged")
        more, same = _compared(scores, row, mark, step)
        if known is not None:
            # What the queries' other known answers add is taken off again: they are few, and need no mask.
            at_row, entity = known.answers(side, queries)
            counted = torch.bincount(at_row, minlength=len(queries))
            first = counted.cumsum(0) - counted
            repeated = counted[row]
            which = torch.arange(len(row)).repeat_interleave(repeated)
            place = torch.arange(len(which)) - (repeated.cumsum(0) - repeated)[which] + first[row[which]]
            score, limit, other = scores[at_row[place], entity[place]], mark[which], entity[place] != true[which]
            more -= torch.bincount(which[other & (score > limit)], minlength=len(row))
            same -= torch.bincount(which[other & (score == limit)], minlength=len(row))
            others[mine] = torch.bincount(which[other], minlength=len(row))
        better[mine], equal[mine] = more, same - 1
    return better, equal, entities - others


def _compared(scores: Tensor, row: Tensor, mark: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """How many scores of each row are above, and how many equal to, each mark."""
    more, same = torch.empty(len(row), dtype=torch.long), torch.empty(len(row), dtype=torch.long)
    for start in range(0, len(row), step):
        part = slice(start, start + step)
        whole = len(scores) == len(row)
        rows = scores[part] if whole else scores.index_select(0, row[part])
        more[part] = torch.count_nonzero(rows > mark[part, None], dim=1)
        same[part] = torch.count_nonzero(rows == mark[part, None], dim=1)
    return more, same


def rank_among(
    model: Ranking,
    triples: Tensor,
    candidates: Mapping[Side, Tensor],
    *,
    budget: int = BUDGET,
) -> Ranks:
    """Rank each true entity among given ones: the sampled protocol of OGB (arXiv:2005.00687, section 5.4).

    Args:
        model: Scores candidates.
        triples: ``[count, 3]`` int64.
        candidates: ``[count, n]`` int64 false entities, for each side that is asked for.
        budget: Bytes of scores that exist at once.
    """
    columns = []
    for side, given in candidates.items():
        true = triples[:, [TAIL if side == "tail" else HEAD]]
        every = torch.cat([true, given], 1)
        step = max(1, budget // (4 * every.shape[1]))
        above, same = [], []
        for start in range(0, len(triples), step):
            part = slice(start, start + step)
            scores = model.rank_scores(side, triples[part], every[part])
            above.append((scores[:, 1:] > scores[:, :1]).sum(1))
            same.append((scores[:, 1:] == scores[:, :1]).sum(1))
        columns.append((torch.cat(above), torch.cat(same), torch.full((len(triples),), every.shape[1])))
    better, equal, size = (torch.stack(part, 1) for part in zip(*columns, strict=True))
    return Ranks(tuple(candidates), better, equal, size, triples[:, RELATION])


def sampled_candidates(triples: Tensor, known: Known, count: int, *, seed: int, side: Side) -> Tensor:
    """``[triples, count]`` int64 entities that make each triple false as far as is known, drawn with repetition.

    Args:
        triples: ``[n, 3]`` int64.
        known: True triples.
        count: How many for each.
        seed: Of the draws.
        side: What is replaced.

    Raises:
        ValueError: A triple is true with every entity.
    """
    generator = np.random.default_rng([seed, SIDES.index(side)])
    column = TAIL if side == "tail" else HEAD
    if bool((known.counts(side, triples) >= known.entities).any()):
        raise ValueError("a triple is true with every entity, so that there is none to rank it among")
    drawn = torch.from_numpy(generator.integers(0, known.entities, size=(len(triples), count)))
    while True:
        whole = triples[:, None].expand(-1, count, -1).clone()
        whole[..., column] = drawn
        wrong = known.holds(whole) | (drawn == triples[:, column, None])
        if not bool(wrong.any()):
            return drawn
        drawn[wrong] = torch.from_numpy(generator.integers(0, known.entities, size=int(wrong.sum())))
