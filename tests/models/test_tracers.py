"""Models of learners: what they may not see, what they are worth on noise, and where they agree with plain loops."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tutelage.data.answer_splits import divided
from tutelage.data.answers import AnswerBatch, AnswerLog, AnswerWindows, TraceInfo, one, windows
from tutelage.measure.answers import predictions
from tutelage.models.additive_tracer import DAS3H, PFA
from tutelage.models.akt import AKT, Decaying
from tutelage.models.bkt import BKT
from tutelage.models.cakt import CAKT
from tutelage.models.concept_mean import ConceptMean
from tutelage.models.dkt import DKT
from tutelage.models.sakt import SAKT
from tutelage.models.tracer import Recurrent, Tracer
from tutelage.recipe.errors import InputError

MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "dkt": (DKT, {"width": 8}),
    "sakt": (SAKT, {"width": 8, "heads": 2, "blocks": 2}),
    "akt": (AKT, {"width": 8, "heads": 2, "blocks": 2}),
    "bkt": (BKT, {}),
    "pfa": (PFA, {}),
    "das3h": (DAS3H, {}),
    "cakt": (CAKT, {"side": 3}),
    "cakt, current": (CAKT, {"side": 3, "anchor": "current"}),
    "cakt, ablated": (
        CAKT,
        {"side": 3, "recent": "lstm", "pool": "fc", "rear": "fc", "fusion": "average", "decay": False},
    ),
    "concept-mean": (ConceptMean, {}),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def info(concepts: int = 6, width: int = 1, items: int = 4) -> TraceInfo:
    return TraceInfo(
        (width,), 0, (), "x", concept_names=tuple(map(str, range(concepts))), item_names=tuple(map(str, range(items))),
        width=width, window=64,
    )  # fmt: skip


def answers(learners: int = 5, steps: int = 40, concepts: int = 6, width: int = 1, seed: int = 0) -> AnswerWindows:
    rng = np.random.default_rng(seed)
    counts = rng.integers(steps // 2, steps + 1, learners)
    counts[0] = steps
    offsets = np.concatenate([[0], counts.cumsum()]).astype(np.int64)
    n = int(offsets[-1])
    asked = rng.random((n, concepts)).argsort(1)[:, :width].astype(np.int32)
    asked[rng.random(n) < 0.5, 1:] = -1
    log = AnswerLog(
        offsets, asked, rng.integers(0, 2, n).astype(np.uint8), rng.integers(0, 4, n).astype(np.int32),
        np.cumsum(rng.exponential(20_000.0, n)),
    )  # fmt: skip
    return windows(log, steps=steps)


def made(name: str, **more: Any) -> Tracer:
    kind, args = MODELS[name]
    torch.manual_seed(0)
    model: Tracer = kind(info(**more), **args).eval()
    for parameter in model.parameters():
        if name != "bkt" and (name in ("pfa", "das3h") or not parameter.abs().sum()):
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def logits(model: Tracer, batch: AnswerBatch) -> torch.Tensor:
    with torch.no_grad():
        return model.trace(*batch.arguments)


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_no_answer_influences_its_own_prediction_or_an_earlier_one(name: str, width: int) -> None:
    """With several concepts a question too: they are one step, so that none of them tells of another."""
    model, batch = made(name, width=width), answers(width=width).fetch(range(5))
    plain = logits(model, batch)
    for step in (0, 7, 23):
        changed = batch.labels.clone()
        changed[:, step] = 1 - changed[:, step]
        other = logits(model, batch.with_(labels=changed))
        assert torch.equal(plain[:, : step + 1], other[:, : step + 1])
        if name != "concept-mean":
            assert not torch.equal(plain[:, step + 1 :], other[:, step + 1 :])


@pytest.mark.parametrize("name", MODELS)
def test_the_end_of_a_window_and_its_neighbours_change_nothing(name: str) -> None:
    model, cut = made(name), answers()
    batch = cut.fetch(range(5))
    whole = logits(model, batch)
    for row in range(5):
        alone = cut.fetch([row])
        length = alone.labels.shape[1]
        torch.testing.assert_close(logits(model, alone)[0], whole[row, :length], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(logits(model, alone.until(9))[0], whole[row, :9], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_predictions_ahead_begin_with_those_that_see_everything(name: str) -> None:
    model, batch = made(name), answers().fetch([0])
    seen = logits(model, batch).sigmoid()
    later = model.ahead(batch, 30)
    torch.testing.assert_close(later[:, :31], seen[:, :31], rtol=1e-4, atol=1e-5)
    blind = batch.labels.clone()
    blind[:, 30:] = 1 - blind[:, 30:]
    assert torch.equal(later, model.ahead(batch.with_(labels=blind), 30))
    torch.testing.assert_close(model.ahead(batch, 40), seen, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("das3h", "akt")])
def test_mastery_is_what_the_next_question_would_be_answered_with(name: str) -> None:
    model, batch = made(name, items=0), answers().fetch([0]).until(12)
    batch = batch.with_(items=torch.full_like(batch.items, -1))
    state = model.mastery(batch)
    assert state.shape == (1, 13, 6)
    seen = logits(model, batch).sigmoid()
    for step in range(12):
        torch.testing.assert_close(state[0, step, batch.inputs[0, step, 0]], seen[0, step], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.latest(batch)[0], state[0, -1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["dkt", "sakt", "akt", "cakt"])
def test_noise_cannot_be_predicted(name: str) -> None:
    """Random answers, trained on until they are remembered: AUC of others stays at a half, within its interval."""
    cut = answers(60, 20, seed=1)
    kind, args = MODELS[name]
    torch.manual_seed(0)
    model = kind(info(items=0), **args).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(40):
        batch = cut.fetch(torch.randperm(60)[:30])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            model.trace(*batch.arguments)[batch.scored], batch.labels[batch.scored]
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = predictions(model.eval(), answers(400, 20, seed=2))
    area = found.mean(found.auc())
    assert area.low is not None
    assert area.high is not None
    # Two interval widths, so that one test in many does not fail by chance.
    assert abs(area.value - 0.5) < area.high - area.low
    assert float(loss.detach()) < 0.7


def test_soft_answers_lie_between() -> None:
    model, batch = made("dkt"), answers().fetch([0]).until(3)
    states = [model.states(batch.inputs, torch.full((1, 3), value), batch.real) for value in (0.0, 1.0)]  # type: ignore[operator]
    half = model.states(batch.inputs, torch.full((1, 3), 1e-6), batch.real)  # type: ignore[operator]
    torch.testing.assert_close(half, states[0], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(half, states[1])


def test_a_recurrent_layer_in_pieces_is_the_layer() -> None:
    torch.manual_seed(0)
    layer = Recurrent(3, 5, layers=2, piece=4)
    steps, lengths = torch.randn(6, 21, 3), torch.tensor([21, 3, 8, 9, 1, 4])
    whole = layer.layer(steps)[0]
    found = layer(steps, lengths)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(found[row, :length], whole[row, :length], rtol=1e-5, atol=1e-6)


def test_bayesian_tracing_is_the_textbook_recursion() -> None:
    model = made("bkt")
    batch = one([0, 1, 0, 0], [1, 0, 0, 1])
    with torch.no_grad():
        for name, value in {"prior": 0.3, "learn": 0.2, "forget": 0.05, "guess": 0.25, "slip": 0.1}.items():
            getattr(model, name).fill_(value)
    known, found = {0: 0.3, 1: 0.3}, []
    for concept, right in zip([0, 1, 0, 0], [1, 0, 0, 1], strict=True):
        p = known[concept]
        chance = p * 0.9 + (1 - p) * 0.25
        found.append(chance)
        after = p * 0.9 / chance if right else p * 0.1 / (1 - chance)
        known[concept] = after * 0.95 + (1 - after) * 0.2
    assert logits(model, batch).sigmoid()[0].tolist() == pytest.approx(found, abs=1e-5)


def test_factors_count_what_came_before() -> None:
    model = PFA(info())
    with torch.no_grad():
        model.weight.copy_(torch.cat([torch.full((6,), 0.1), torch.full((6,), 1.0), torch.full((6,), -0.5)]))
    found = logits(model, one([0, 0, 1, 0], [1, 0, 1, 1]))
    assert found[0].tolist() == pytest.approx([0.1, 1.1, 0.1, 0.1 + 1.0 - 0.5])


def test_history_is_counted_by_how_long_ago() -> None:
    model = DAS3H(info(items=0), days=(1.0,))
    index, amount = model.features(*(t for t in one([0, 0, 0], [1, 1, 0], times=[0, 43_200, 200_000]).arguments[:4]))
    last = dict(zip(index[0, 2].tolist(), amount[0, 2].tolist(), strict=True))
    first = 1  # the place of unknown items
    assert last[first + 6 * 1] == 0.0
    assert last[first + 6 * 3] == pytest.approx(math.log(3))
    assert last[first + 6 * 4] == pytest.approx(math.log(3))


def test_attention_fades_with_distance() -> None:
    part = Decaying(8, 2, 0.0, False)
    scores = torch.zeros(1, 2, 5, 5)
    hidden = torch.ones(5, 5, dtype=torch.bool).triu(1)
    fading = part.decay(scores, hidden)[0, 0]
    # Equal scores: between τ and t lie t - τ of t + 1 equal shares, so that the distance is (t - τ)² / (t + 1).
    wanted = [math.exp(-math.log(2) * (4 - j) ** 2 / 5) for j in range(5)]
    assert fading[4].tolist() == pytest.approx(wanted, abs=1e-5)


def test_recent_steps_of_a_concept() -> None:
    """Concepts A, B, A, A, C, A and three frames: what was answered last is one step before what is asked next."""
    asked = torch.tensor([0, 1, 0, 0, 2, 0, 1])[None, :, None]
    current, since = CAKT(info(), side=2, frames=3, anchor="current").recent_steps(asked)
    assert current[0, 6].tolist() == [2, 3, 5]
    assert current[0, 5].tolist() == [-1, -1, 4]
    assert since[0, 6].tolist() == [3, 2, 0]
    following, since = CAKT(info(), side=2, frames=3).recent_steps(asked)
    assert following[0, 5].tolist() == [0, 2, 3]
    assert since[0, 5].tolist() == [5, 3, 2]
    assert following[0, 6].tolist() == [-1, -1, 1]


def test_sizes_are_those_of_the_paper() -> None:
    model = CAKT(replace(info(), concept_names=tuple(map(str, range(110)))))
    assert sum(p.numel() for p in model.parameters()) == 1_095_937
    assert sum(p.numel() for p in model.film.parameters()) == 4_801


def test_concept_averages_are_smoothed_shares() -> None:
    rng = np.random.default_rng(0)
    log = AnswerLog(
        np.array([0, 50, 100], dtype=np.int64), np.repeat([[0], [1]], 50, 0).astype(np.int32),
        (rng.random(100) < np.repeat([0.9, 0.2], 50)).astype(np.uint8), np.full(100, -1, dtype=np.int32),
        np.arange(100.0),
    )  # fmt: skip
    train = windows(log, steps=64)
    facts = replace(info(2, items=0), rate=float(log.correct.mean()))
    model = ConceptMean(facts, smoothing=4.0)
    model.count(train)
    shares = [(log.correct[:50].sum() + 4 * facts.rate) / 54, (log.correct[50:].sum() + 4 * facts.rate) / 54]
    assert logits(model, one([0, 1], [1, 1])).sigmoid()[0].tolist() == pytest.approx(shares, abs=1e-5)


def test_other_data_is_refused() -> None:
    from tutelage.data.batch import DataInfo

    with pytest.raises(InputError, match="use it with logs of answers"):
        DKT(DataInfo((8,), 2, ("a", "b"), "x"))
    with pytest.raises(InputError, match="heads 3"):
        SAKT(info(), width=8, heads=3)
    log = answers(9).log
    with pytest.raises(InputError, match="nothing to tell apart"):
        divided(
            replace_correct(log),
            ["a"] * 6,
            (),
            by="learner",
            test=0.2,
            validation=0.0,
            seed=0,
            window=10,
            overlap=5,
            timed=True,
        )


def replace_correct(log: AnswerLog) -> AnswerLog:
    return AnswerLog(log.offsets, log.concepts, np.ones_like(log.correct), log.items, log.times)


def test_groups_of_similar_length_change_nothing() -> None:
    cut = answers(40, 30, seed=5)
    batch = cut.fetch(range(40))
    for name in ("sakt", "akt"):
        model = made(name)
        whole = logits(model, batch)
        for row in (0, 7, 39):
            alone = cut.fetch([row])
            length = alone.labels.shape[1]
            torch.testing.assert_close(logits(model, alone)[0], whole[row, :length], rtol=1e-4, atol=1e-5)
