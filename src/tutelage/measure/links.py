"""Where true entities rank among candidates: what a completed graph is measured by."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, MinLen
from torch import Tensor

from tutelage.data.splits import Examples, ids_of
from tutelage.data.triples import RELATION_TYPES, SIDES, Known, relation_types
from tutelage.measure.base import Measure
from tutelage.measure.link_prediction import Ranking, Ranks, Ties, rank, rank_among, sampled_candidates
from tutelage.measure.number import Number
from tutelage.measure.scored import Scored
from tutelage.recipe.registry import component


@component("measure", "links")
class Links(Measure):
    """Ranks of true heads and tails: MRR, Hits@k and AMRI, also apart by kind of relation.

    Args:
        hits: The k of Hits@k.
        ties: How an equal score counts: ``realistic`` is the mean of before and behind.
        filtered: Whether other true triples compete with the one that is asked for; true leaves them out.
        sides: What is asked for: heads, tails, or both.
        candidates: How many false entities each true one is ranked among, drawn at random as in OGB's protocol; null
            for all entities.
        by_type: Whether MRR is given apart by kind of relation too.
    """

    group: ClassVar[str] = "quality"
    subject: ClassVar[str] = "links"

    def __init__(
        self,
        *,
        hits: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1)] = (1, 3, 10),
        ties: Literal["realistic", "optimistic", "pessimistic"] = "realistic",
        filtered: bool = True,
        sides: Literal["both", "head", "tail"] = "both",
        candidates: Annotated[int, Ge(1)] | None = None,
        by_type: bool = True,
    ) -> None:
        self.hits, self.filtered, self.candidates, self.by_type = hits, filtered, candidates, by_type
        self.ties: Ties = ties
        self.sides = SIDES if sides == "both" else (sides,)

    def __call__(self, subject: Any, source: Any = None) -> dict[str, Number]:
        """What was measured of it already."""
        return {}

    def ranks(self, model: Ranking, triples: Tensor, known: Known | None, *, entities: int, seed: int = 0) -> Ranks:
        """Ranks of triples ``[count, 3]`` int64.

        Args:
            model: Scores candidates.
            triples: What is ranked.
            known: True triples.
            entities: How many there are.
            seed: Of the candidates, where they are drawn.
        """
        if self.candidates is not None:
            assert known is not None
            drawn = {s: sampled_candidates(triples, known, self.candidates, seed=seed, side=s) for s in self.sides}
            return rank_among(model, triples, drawn)
        return rank(model, triples, known if self.filtered else None, entities=entities, sides=self.sides)

    def scored(
        self, name: str, model: Ranking, test: Examples, known: Known, facts: Tensor, *, seed: int = 0
    ) -> Scored:
        """All scores of a model on test triples.

        Args:
            name: The model's.
            model: Scores candidates.
            test: The triples.
            known: True triples.
            facts: The same ``[count, 3]``, from which kinds of relations are told.
            seed: Of the candidates, where they are drawn.
        """
        triples = test.fetch(torch.arange(len(test))).inputs.to(facts.device)
        ranks = self.ranks(model, triples, known, entities=known.entities, seed=seed)
        samples = {"mrr": ranks.reciprocal(self.ties), **{f"hits@{k}": ranks.within(k, self.ties) for k in self.hits}}
        numbers = {"amri": ranks.amri(self.ties), "mean_rank": ranks.mean_rank(self.ties)}
        if len(self.sides) > 1:
            numbers |= {f"mrr_{side}": ranks.only(side).mrr(self.ties) for side in self.sides}
        if self.by_type:
            kinds = ranks.by_type(relation_types(facts.cpu(), known.relations), RELATION_TYPES)
            numbers |= {f"mrr_{kind}": part.mrr(self.ties) for kind, part in kinds.items()}
        right = ranks.within(max(self.hits), self.ties) == 1.0
        return Scored(
            name, ids_of(test), {"quality": samples}, {"quality": numbers}, lower_is_better=frozenset(), right=right
        )
