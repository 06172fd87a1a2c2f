"""Ranks against a naive count and against PyKEEN, whatever the chunks; tied scores; what is made of them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tutelage.data.triples import RELATION_TYPES, Known, relation_types
from tutelage.measure.link_prediction import Ranks, rank, rank_among, sampled_candidates
from tutelage.measure.links import Links

ENTITIES, RELATIONS = 23, 4


class Table:
    """Scores that were drawn beforehand, of few values so that they tie."""

    def __init__(self, seed: int = 0, values: int = 6) -> None:
        made = torch.Generator().manual_seed(seed)
        shape = (ENTITIES, RELATIONS, ENTITIES)
        self.scores = torch.randint(0, values, shape, generator=made).float() / 4
        self.asked: list[int] = []

    def rank_scores(self, side: str, triples: Tensor, candidates: Tensor | None = None) -> Tensor:
        h, r, t = triples.unbind(1)
        found = self.scores[h, r] if side == "tail" else self.scores[:, r, t].T
        self.asked.append(len(triples))
        return found if candidates is None else found.gather(1, candidates)


def facts(count: int = 150, seed: int = 3) -> Tensor:
    made = torch.Generator().manual_seed(seed)
    columns = [torch.randint(0, n, (count,), generator=made) for n in (ENTITIES, RELATIONS, ENTITIES)]
    return torch.stack(columns, 1).unique(dim=0)


def counted(scores: Tensor, true: int, others: set[int]) -> tuple[int, int, int]:
    mark = scores[true]
    rest = [float(s) for e, s in enumerate(scores) if e != true and e not in others]
    return sum(s > mark for s in rest), sum(s == mark for s in rest), len(rest) + 1


@pytest.mark.parametrize("filtered", [True, False])
@pytest.mark.parametrize("budget", [1, 4 * ENTITIES * 19, 1 << 20])
def test_ranks_are_those_of_a_count(filtered: bool, budget: int) -> None:
    triples, model = facts(), Table()
    test, every = triples[::3], {tuple(t) for t in triples.tolist()}
    known = Known(triples, ENTITIES, RELATIONS)
    ranks = rank(model, test, known if filtered else None, entities=ENTITIES, budget=budget)
    for i, (h, r, t) in enumerate(test.tolist()):
        heads = {e for e in range(ENTITIES) if (e, r, t) in every} if filtered else set()
        tails = {e for e in range(ENTITIES) if (h, r, e) in every} if filtered else set()
        wanted = counted(model.scores[:, r, t], h, heads), counted(model.scores[h, r], t, tails)
        for side in (0, 1):
            found = ranks.better[i, side], ranks.equal[i, side], ranks.candidates[i, side]
            assert tuple(map(int, found)) == wanted[side]
    # A query of several triples is scored once.
    queries = len({(r, t) for _, r, t in test.tolist()}) + len({(h, r) for h, r, _ in test.tolist()})
    assert sum(model.asked) == queries


def test_ties_stand_in_order() -> None:
    ranks = Ranks(
        ("tail",), torch.tensor([[2], [0]]), torch.tensor([[3], [0]]), torch.tensor([[9], [9]]), torch.zeros(2)
    )
    assert ranks.values("optimistic").flatten().tolist() == [3, 1]
    assert ranks.values("realistic").flatten().tolist() == [4.5, 1]
    assert ranks.values("pessimistic").flatten().tolist() == [6, 1]
    assert ranks.hits(3, "optimistic").value == 1.0
    assert ranks.hits(3).value == 0.5
    assert ranks.mrr().value == pytest.approx((1 / 4.5 + 1) / 2)
    assert ranks.amri().value == pytest.approx(1 - (5.5 / 2 - 1) / (5 - 1))


def test_a_model_that_says_the_same_of_all_is_at_chance() -> None:
    ranks = rank(Table(values=1), facts(), None, entities=ENTITIES)
    assert ranks.amri().value == pytest.approx(0.0, abs=1e-12)
    assert ranks.mrr("optimistic").value == 1.0
    low = ranks.amri()
    assert low.low is not None
    assert low.low <= low.value <= low.high


def test_they_agree_with_pykeen_on_the_same_scores() -> None:
    from pykeen.evaluation import RankBasedEvaluator

    triples, model = facts(), Table(5)
    test = triples[::2]
    known = Known(triples, ENTITIES, RELATIONS)
    for filtered in (True, False):
        evaluator = RankBasedEvaluator(filtered=filtered, clear_on_finalize=False)
        every = {tuple(t) for t in triples.tolist()}
        for triple in test.tolist():
            h, r, t = triple
            for target, scores, true in (("head", model.scores[:, r, t], h), ("tail", model.scores[h, r], t)):
                kept = scores.clone()
                for e in range(ENTITIES) if filtered else ():
                    other = (e, r, t) if target == "head" else (h, r, e)
                    if other in every and e != true:
                        kept[e] = float("nan")
                evaluator.process_scores_(
                    torch.tensor([triple]), target, kept[None], torch.tensor([[scores[true]]]), None
                )
        theirs = evaluator.finalize()
        ranks = rank(model, test, known if filtered else None, entities=ENTITIES)
        views: dict[str, Any] = {"both": ranks, "head": ranks.only("head"), "tail": ranks.only("tail")}
        for (side, view), ties in itertools.product(views.items(), ("optimistic", "realistic", "pessimistic")):
            pairs = {
                "inverse_harmonic_mean_rank": view.mrr(ties),
                "arithmetic_mean_rank": view.mean_rank(ties),
                **{f"hits_at_{k}": view.hits(k, ties) for k in (1, 3, 5, 10)},
            }
            if ties == "realistic":
                pairs["adjusted_arithmetic_mean_rank_index"] = view.amri(ties)
            for name, number in pairs.items():
                assert number.value == pytest.approx(theirs.get_metric(f"{side}.{ties}.{name}"), abs=1e-6), (side, name)


def test_the_sampled_protocol_ranks_among_false_ones() -> None:
    triples, model = facts(), Table(2)
    known = Known(triples, ENTITIES, RELATIONS)
    drawn = {side: sampled_candidates(triples, known, 15, seed=4, side=side) for side in ("head", "tail")}  # type: ignore[arg-type]
    again = sampled_candidates(triples, known, 15, seed=4, side="tail")
    assert torch.equal(drawn["tail"], again)
    whole = triples[:, None].expand(-1, 15, -1).clone()
    whole[..., 2] = drawn["tail"]
    assert not known.holds(whole).any()
    ranks = rank_among(model, triples, drawn, budget=64)  # type: ignore[arg-type]
    assert (ranks.candidates == 16).all()
    for i, (h, r, t) in enumerate(triples.tolist()):
        scores = model.scores[h, r][drawn["tail"][i]]
        assert int(ranks.better[i, 1]) == int((scores > model.scores[h, r, t]).sum())


def test_the_measure_gives_samples_and_numbers() -> None:
    from tutelage.data.triples import TripleExamples

    triples, model = facts(), Table(1)
    test = TripleExamples(triples[::3].int().numpy(), torch.arange(len(triples[::3])) + 900)
    known = Known(triples, ENTITIES, RELATIONS)
    scored = Links(hits=(1, 5)).scored("model", model, test, known, triples)
    found = scored.measures()["quality"]
    assert found["mrr"].n == len(test)
    assert found["mrr"].low < found["mrr"].value < found["mrr"].high
    kinds = relation_types(triples, RELATIONS)
    named = {RELATION_TYPES[int(kinds[r])] for r in triples[::3, 1].tolist()}
    assert {f"mrr_{kind}" for kind in named} == {name for name in found if name.startswith("mrr_") and "-" in name}
    ranks = rank(model, triples[::3], known, entities=ENTITIES)
    parts = ranks.by_type(kinds, RELATION_TYPES)
    assert sum(len(part) * part.mrr().value for part in parts.values()) / len(test) == pytest.approx(found["mrr"].value)
    assert found["hits@5"].value == pytest.approx(float((ranks.values() <= 5).double().mean()))
    one = Links(sides="tail", candidates=10, by_type=False, filtered=False).scored("m", model, test, known, triples)
    assert set(one.measures()["quality"]) == {"mrr", "hits@1", "hits@3", "hits@10", "amri", "mean_rank"}


def test_what_cannot_be_ranked_says_so() -> None:
    model = Table()
    model.scores = model.scores * float("nan")
    with pytest.raises(ValueError, match="not a number"):
        rank(model, facts(), None, entities=ENTITIES)
    with pytest.raises(ValueError, match="no triples"):
        rank(Table(), facts()[:0], None, entities=ENTITIES)
    full = torch.cartesian_prod(torch.arange(2), torch.arange(1), torch.arange(2))
    with pytest.raises(ValueError, match="true with every entity"):
        sampled_candidates(full, Known(full, 2, 1), 3, seed=0, side="tail")
    assert np.isnan(rank(Single(), torch.zeros(1, 3, dtype=torch.long), None, entities=1).amri().value)


class Single:
    def rank_scores(self, side: str, triples: Tensor, candidates: Tensor | None = None) -> Tensor:
        return torch.zeros(len(triples), 1)
