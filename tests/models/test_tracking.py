"""Answers that come one by one lead where all of them at once lead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from tutelage.data.answers import DAY, TraceInfo, one
from tutelage.models.bkt import BKT
from tutelage.models.dkt import DKT
from tutelage.models.psi_kt import PsiKT
from tutelage.models.tracer import Tracer
from tutelage.models.tracking import Answer, Tracking


def model(kind: str) -> Tracer:
    torch.manual_seed(0)
    info = TraceInfo((1,), 0, (), "x", concept_names=tuple("abcd"), window=60)
    made: Tracer
    if kind == "psi-kt":
        made = PsiKT(info, influence=4.0)
        for parameter in made.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.4)
    else:
        made = DKT(info, width=8) if kind == "dkt" else BKT(info)
    return made.eval()


def answers(count: int, seed: int) -> list[Answer]:
    rng = np.random.default_rng(seed)
    times = 1.6e9 + np.cumsum(rng.exponential(DAY, count))
    return [Answer((int(rng.integers(0, 4)),), int(rng.integers(0, 2)), float(t)) for t in times]


def whole(made: Tracer, history: Sequence[Answer]) -> Any:
    return one([a.concepts for a in history], [a.correct for a in history], times=[a.time for a in history])


@pytest.mark.parametrize("kind", ["psi-kt", "dkt", "bkt"])
def test_one_by_one_is_all_at_once(kind: str) -> None:
    made, logs = model(kind), {"x": answers(30, 0), "y": answers(21, 1)}
    tracking = Tracking(made, lambda learner: [])
    mixed = [(name, a) for name, log in logs.items() for a in log]
    mixed.sort(key=lambda pair: pair[1].time)
    found = tracking.take(mixed)
    for name, log in logs.items():
        batch = whole(made, log)
        with torch.no_grad():
            wanted = made.trace(*batch.arguments).sigmoid()[0]
        own = [chance for chance, (who, _) in zip(found, mixed, strict=True) if who == name]
        assert own == pytest.approx(wanted.tolist(), abs=1e-4)
        standing = tracking.standing(name, log[-1].time)
        assert standing.chance.tolist() == pytest.approx(made.latest(batch)[0].tolist(), abs=1e-4)
        assert (standing.low <= standing.chance + 1e-6).all()
        assert (standing.high >= standing.chance - 1e-6).all()
        assert standing.answers == len(log)


@pytest.mark.parametrize("kind", ["psi-kt", "dkt"])
def test_states_that_left_memory_are_made_again(kind: str) -> None:
    made = model(kind)
    logs: dict[str, list[Answer]] = {f"l{i}": [] for i in range(6)}
    small, large = Tracking(made, logs.__getitem__, held=2), Tracking(made, logs.__getitem__)
    for turn in range(5):
        for name in logs:
            answer = answers(5, hash(name) % 100)[turn]
            for tracking in (small, large):
                tracking.load([name])
            first, second = small.take([(name, answer)]), large.take([(name, answer)])
            logs[name].append(answer)
            assert first == pytest.approx(second, abs=1e-5)
    assert len(small._states) == 2


def test_what_is_not_practised_is_forgotten() -> None:
    made = model("psi-kt")
    assert isinstance(made, PsiKT)
    tracking = Tracking(made, lambda learner: [])
    tracking.take([("x", Answer((0,), 1, 1.6e9 + i)) for i in range(8)])
    now = tracking.standing("x", 1.6e9 + 8)
    later = tracking.standing("x", 1.6e9 + 90 * DAY)
    assert later.chance[0] < now.chance[0]
    assert later.high[0] - later.low[0] > now.high[0] - now.low[0]


def test_of_nobody_nothing_is_known() -> None:
    for kind in ("psi-kt", "dkt", "bkt"):
        standing = Tracking(model(kind), lambda learner: []).standing("x", 0.0)
        assert standing.answers == 0
        assert standing.chance.shape == (4,)
