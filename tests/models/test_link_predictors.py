"""Link predictors against their equations, in float64, on every side and for every way of asking."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tutelage.data.batch import DataInfo
from tutelage.data.triples import graph_info
from tutelage.models.complex import ComplEx
from tutelage.models.distmult import DistMult
from tutelage.models.hake import HAKE
from tutelage.models.link_predictor import LinkPredictor
from tutelage.models.rotate import RotatE
from tutelage.models.synthetic_translation import SyntheticTranslation
from tutelage.models.transe import TransE
from tutelage.models.weights import describe, load_model, save_weights
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import registry

GRAPH = graph_info([f"e{i}" for i in range(7)], ["r", "s"], "f")


def transe(model: TransE, h: Tensor, r: Tensor, t: Tensor) -> Tensor:
    if model.normalize:
        h, t = normalize(h, dim=-1), normalize(t, dim=-1)
    return model.margin - (h + r - t).norm(p=model.norm, dim=-1)


def rotate(model: RotatE, h: Tensor, r: Tensor, t: Tensor) -> Tensor:
    turn = torch.polar(torch.ones_like(r), r * math.pi / model.reach)
    apart = torch.complex(*h.chunk(2, -1)) * turn - torch.complex(*t.chunk(2, -1))
    return model.margin - (apart.abs().sum(-1) if model.norm == "moduli" else apart.abs().square().sum(-1).sqrt())


def distmult(model: DistMult, h: Tensor, r: Tensor, t: Tensor) -> Tensor:
    return (h * r * t).sum(-1)


def complex_(model: ComplEx, h: Tensor, r: Tensor, t: Tensor) -> Tensor:
    a, b, c = (torch.complex(*x.chunk(2, -1)) for x in (h, r, t))
    return (a * b * c.conj()).sum(-1).real


def hake(model: HAKE, h: Tensor, r: Tensor, t: Tensor) -> Tensor:
    (hp, hm), (tp, tm), (rp, rm, bias) = h.chunk(2, -1), t.chunk(2, -1), r.chunk(3, -1)
    rm, bias = rm.abs(), bias.clamp(max=1.0)
    bias = torch.where(bias < -rm, -rm, bias)
    modulus = (hm * (rm + bias) - tm * (1 - bias)).norm(dim=-1)
    phase = (((hp + rp - tp) * math.pi / model.reach) / 2).sin().abs().sum(-1)
    return model.margin - model.modulus_weight * modulus - model.phase_weight * phase


def synthetic(model: SyntheticTranslation, h: Tensor, r: Tensor, t: Tensor) -> Tensor:
    def unit(x: Tensor) -> Tensor:
        return normalize(x, dim=-1) if model.normalize else x

    w, u = model.width, model.unit
    parts = 1 if model.variant == "transe" else 2
    (hm, *ha), (tm, *ta) = ([unit(x) for x in e.split(w, -1)] for e in (h, t))
    zero = torch.zeros_like(hm)
    ha, ta = (ha[0], ta[0]) if parts == 2 else (zero, zero)
    if model.variant == "trans":
        left, middle, right = r.split(w, -1)
        left, right = unit(left), unit(right)
    else:
        left, middle, right = zero, r, zero
    value = hm * (ta + u) - tm * (ha + u) + hm * left + middle + tm * right
    return model.margin - value.norm(p=model.norm, dim=-1)


CASES: list[Any] = [
    pytest.param(TransE, transe, {}, id="transe"),
    pytest.param(TransE, transe, {"norm": 2, "normalize": True}, id="transe-l2-unit"),
    pytest.param(RotatE, rotate, {}, id="rotate"),
    pytest.param(RotatE, rotate, {"norm": "euclidean"}, id="rotate-euclidean"),
    pytest.param(DistMult, distmult, {}, id="distmult"),
    pytest.param(ComplEx, complex_, {}, id="complex"),
    pytest.param(HAKE, hake, {}, id="hake"),
    *(
        pytest.param(SyntheticTranslation, synthetic, {"variant": v, **more}, id=f"{v}{more}")
        for v in ("trans", "interht", "transe")
        for more in ({}, {"norm": 2, "unit": 0.5}, {"normalize": False})
    ),
]


@pytest.mark.parametrize(("kind", "equation", "args"), CASES)
def test_scores_are_the_equations(kind: Any, equation: Any, args: dict[str, Any]) -> None:
    torch.manual_seed(1)
    model = kind(GRAPH, width=6, **args).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_()
    h, r, t = torch.meshgrid(torch.arange(7), torch.arange(2), torch.arange(7), indexing="ij")
    whole = equation(model, model.entities[h], model.relations[r], model.entities[t])
    triples = torch.stack([h, r, t], -1).view(-1, 3)[::5]
    forward = torch.ones(len(triples), dtype=torch.bool)
    mixed = torch.arange(len(triples)) % 2 == 0
    some = torch.randint(0, 7, (len(triples), 3))
    for tails in (forward, ~forward, mixed):
        wanted = torch.stack(
            [
                whole[a, b, :] if tail else whole[:, b, c]
                for (a, b, c), tail in zip(triples.tolist(), tails, strict=True)
            ]
        )
        torch.testing.assert_close(model.scores(triples, tails), wanted)
        torch.testing.assert_close(model.scores(triples, tails, some), wanted.gather(1, some))
    for side, tails in (("tail", forward), ("head", ~forward)):
        torch.testing.assert_close(model.rank_scores(side, triples), model.scores(triples, tails))


@pytest.mark.parametrize(("kind", "equation", "args"), CASES)
def test_gradients_are_those_of_the_equations(kind: Any, equation: Any, args: dict[str, Any]) -> None:
    torch.manual_seed(2)
    many = graph_info([f"e{i}" for i in range(50)], ["r", "s"], "f")
    model = kind(many, width=4, **args).double()
    triples = torch.tensor([[3, 0, 4], [5, 1, 3], [3, 1, 3]])
    tails = torch.tensor([True, False, True])
    # Few of many entities, so that only those that occur are gathered.
    some = torch.tensor([[4, 9], [5, 5], [3, 49]])
    mine = model.scores(triples, tails, some)
    entity, relation = model.entities, model.relations[triples[:, 1]][:, None]
    ends = [
        entity[torch.where(tails[:, None], triples[:, [0]], some)],
        entity[torch.where(tails[:, None], some, triples[:, [2]])],
    ]
    theirs = equation(model, ends[0], relation, ends[1])
    torch.testing.assert_close(mine, theirs)
    weight = torch.randn_like(mine)
    parameters = list(model.parameters())
    found = torch.autograd.grad(mine, parameters, weight)
    for a, b in zip(found, torch.autograd.grad(theirs, parameters, weight), strict=True):
        torch.testing.assert_close(a, b)


def test_rows_that_are_held_give_the_same_scores() -> None:
    model = TransE(GRAPH, width=4, normalize=True)
    triples = torch.tensor([[0, 1, 2], [3, 0, 4]])
    plain = model.rank_scores("tail", triples), model.rank_scores("head", triples, torch.tensor([[1], [2]]))
    with model.holding():
        held = model.rank_scores("tail", triples), model.rank_scores("head", triples, torch.tensor([[1], [2]]))
        with torch.no_grad():
            model.entities.zero_()
        torch.testing.assert_close(model.rank_scores("tail", triples), plain[0])
    assert all(torch.equal(a, b) for a, b in zip(plain, held, strict=True))
    assert not torch.equal(model.rank_scores("tail", triples), plain[0])


def test_the_card_of_trans() -> None:
    """γ 6, u 1: the worked example, and that scale does not matter but for the middle of the relation."""
    triple = torch.tensor([[0, 0, 1]])
    graph = graph_info(["h", "t"], ["r"], "")

    def score(variant: str, entities: list[list[float]], relation: list[float]) -> float:
        model = SyntheticTranslation(graph, width=2, variant=variant)  # type: ignore[arg-type]
        with torch.no_grad():
            model.entities.copy_(torch.tensor(entities))
            model.relations.copy_(torch.tensor([relation]))
            tail = model.scores(triple, torch.tensor([True]))[0, 1]
            head = model.scores(triple, torch.tensor([False]))[0, 0]
        assert tail.item() == pytest.approx(head.item(), abs=1e-6)
        return tail.item()

    whole = [[3.0, 4.0, 1.0, 0.0], [0.0, 2.0, 0.0, 1.0]]
    assert score("trans", whole, [3, 4, 0.1, 0.3, 0, 5]) == pytest.approx(2.4, abs=1e-6)
    assert score("trans", whole, [0, 0, 0.1, 0.3, 0, 0]) == pytest.approx(4.4, abs=1e-6)
    assert score("interht", whole, [0.1, 0.3]) == pytest.approx(4.4, abs=1e-6)
    bare = [[3.0, 4.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0]]
    assert score("interht", bare, [0.1, 0.3]) == pytest.approx(5.2, abs=1e-6)
    assert score("transe", [[3.0, 4.0], [0.0, 2.0]], [0.1, 0.3]) == pytest.approx(5.2, abs=1e-6)
    scaled = [[6.0, 8.0, 5.0, 0.0], [0.0, 3.0, 0.0, 9.0]]
    assert score("trans", scaled, [1.5, 2, 0.1, 0.3, 0, 1]) == pytest.approx(2.4, abs=1e-6)
    assert score("trans", whole, [3, 4, 0.2, 0.6, 0, 5]) != pytest.approx(2.4, abs=1e-2)


def test_inverse_relations_answer_for_heads() -> None:
    graph = graph_info([f"e{i}" for i in range(5)], ["r", "s"], "f", inverse=True)
    model = TransE(graph, width=4)
    triples = torch.tensor([[0, 1, 2]])
    turned = model.scores(torch.tensor([[2, 3, 0]]), torch.tensor([True]))
    torch.testing.assert_close(model.rank_scores("head", triples), turned)


def test_the_first_look_is_at_tails_and_a_penalty_sees_the_rows() -> None:
    model = ComplEx(GRAPH, width=4)
    triples = torch.tensor([[0, 1, 2], [3, 0, 4]])
    torch.testing.assert_close(model(triples).logits, model.scores(triples, torch.tensor([True, True])))
    assert model(triples).factors == ()
    model.penalized = True
    given, relation, answer = model(triples, torch.tensor([True, False])).factors
    first = model.entities[[0, 4]]
    torch.testing.assert_close(given, (first[:, :2] ** 2 + first[:, 2:] ** 2).sqrt())
    assert given.shape == relation.shape == answer.shape == (2, 2)


@pytest.mark.parametrize("name", ["transe", "rotate", "distmult", "complex", "hake", "synthetic-translation"])
def test_a_saved_model_is_found_again_with_its_names(name: str, tmp_path: Path) -> None:
    model = registry().load("model", name)(GRAPH, width=6)
    assert isinstance(model, LinkPredictor)
    save_weights(model, tmp_path / "model", describe(name, {"width": 6}, GRAPH))
    again = load_model(tmp_path / "model")
    assert isinstance(again, LinkPredictor)
    assert again.graph == GRAPH
    triples = torch.tensor([[0, 1, 2]])
    assert torch.equal(again.rank_scores("tail", triples), model.rank_scores("tail", triples))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"must be even, e\.g\. 8"):
        RotatE(GRAPH, width=7)
    with pytest.raises(InputError, match="predicts links of a graph"):
        TransE(DataInfo((3,), 2, ("a", "b"), ""))
