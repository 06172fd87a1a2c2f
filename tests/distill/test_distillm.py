"""DistiLLM: the numbers of its card, when the student writes, and that a killed run has lost nothing of it."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.distill.placing import participants

from tutelage import api
from tutelage.data.markov import Markov
from tutelage.data.tokens import TokenBatch
from tutelage.distill.distillm import DistiLLM
from tutelage.distill.samplers.adaptive import Adaptive
from tutelage.engine.method import Room, Step
from tutelage.losses.tokens import Divergence
from tutelage.models.causal_lm import SmallLM
from tutelage.recipe.errors import RecipeError

SPLITS = Markov(train=40, validation=10, test=10).load(0)
TEACHER, STUDENT = torch.tensor([[0.7, 0.2, 0.1]]).log(), torch.tensor([[0.2, 0.3, 0.5]]).log()


@pytest.mark.parametrize(
    ("name", "value", "gradient"),
    [
        ("forward-kl", 0.634897, (-0.5, 0.1, 0.4)),
        ("reverse-kl", 0.675806, None),
        ("skew-kl", 0.493815, (-0.346393, 0.050203, 0.296190)),
        ("skew-reverse-kl", 0.507754, (-0.297919, -0.019906, 0.317825)),
    ],
)
def test_the_divergences_of_the_card(name: Any, value: float, gradient: tuple[float, ...] | None) -> None:
    student = STUDENT.clone().requires_grad_()
    found = Divergence(name, alpha=0.1)(student, TEACHER)
    assert found.item() == pytest.approx(value, abs=2e-6)
    if gradient is not None:
        found.sum().backward()
        assert student.grad is not None
        assert student.grad[0].tolist() == pytest.approx(gradient, abs=2e-6)


def test_the_share_grows_as_validation_gets_worse() -> None:
    sampler = Adaptive(increase=0.1, tolerance=0.1)
    sampler.begin(2.0)
    shares = []
    for loss in (2.0, 2.05, 2.2, 2.25, 2.35):
        sampler.judge(loss)
        shares.append(round(float(sampler.threshold), 6))
    assert shares == [0.0, 0.0, 0.1, 0.1, 0.2]


@pytest.mark.parametrize(
    ("replay", "at"), [("decreasing", (0.4, 0.1)), ("constant", (0.2, 0.2)), ("increasing", (0.0, 0.3))]
)
def test_new_answers_become_rarer_as_the_recipe_says(replay: Any, at: tuple[float, float]) -> None:
    sampler = Adaptive(initial=0.4, replay=replay)
    assert (sampler.rewriting(0.0), sampler.rewriting(0.75)) == pytest.approx(at)


def placed(method: DistiLLM) -> Step:
    torch.manual_seed(0)
    models = {
        "teacher": SmallLM(SPLITS.info, width=24, layers=2, heads=2),
        "student": SmallLM(SPLITS.info, width=16, layers=1, heads=2),
    }
    room = Room(models, SPLITS.info, SPLITS.train.fetch(range(2)), ["student"])
    method.prepare(room)
    return Step(SPLITS.train.fetch(range(4)), participants(room), 0, 0, 0.0)


def test_at_a_share_of_zero_nobody_ever_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    step = placed(method := DistiLLM())
    monkeypatch.setattr(Adaptive, "written", lambda *_: pytest.fail("somebody wrote"))
    for at in range(50):
        assert method.sampler.sample(replace(step, index=at)) is step.batch  # type: ignore[union-attr]


def test_answers_are_written_until_the_buffer_is_full_and_then_used_again() -> None:
    step = placed(method := DistiLLM(init_threshold=1.0, capacity=12, max_new_tokens=3, replay_ratio="increasing"))
    sampler = method.sampler
    assert isinstance(sampler, Adaptive)
    kept: dict[int, list[int]] = {}
    for at in range(3):
        written = sampler.sample(replace(step.on(SPLITS.train.fetch(range(4 * at, 4 * at + 4))), index=at))
        assert isinstance(written, TokenBatch)
        kept |= {int(i): row.tolist() for i, row in zip(written.ids, written.inputs, strict=True)}
    assert int(sampler.held) == 12
    torch.manual_seed(3)
    again = sampler.sample(replace(step, index=5))
    assert isinstance(again, TokenBatch)
    assert int(sampler.held) == 12
    assert len(set(again.ids.tolist())) == 4
    for which, row, mask in zip(again.ids, again.inputs, again.mask, strict=True):
        assert row.tolist() == kept[int(which)]
        assert mask.tolist() == [False] * 7 + [True] * 3
    # The buffer is state: a copy that is given it goes on alike.
    other = copy.deepcopy(method)
    other.load_state_dict(method.state_dict())
    torch.manual_seed(3)
    assert torch.equal(other.sampler.sample(replace(step, index=5)).inputs, again.inputs)  # type: ignore[union-attr]


RECIPE: dict[str, Any] = {
    "method": {"name": "distillm", "init_threshold": 0.5, "max_new_tokens": 4, "capacity": 40, "loss_eps": 0.0},
    "teacher": {"model": "small-lm", "width": 24, "layers": 1, "weights": {"train": {"epochs": 2, "batch_size": 16}}},
    "student": {"model": "small-lm", "width": 16, "layers": 1, "heads": 2},
    "data": {"name": "markov", "train": 96, "validation": 10, "test": 10, "length": 10},
    "train": {"epochs": 3, "batch_size": 16, "optimizer": {"name": "adamw", "lr": 3e-3}, "checkpoint": {"steps": 1}},
    "measure": [],
    "baseline": False,
}


def test_a_run_that_was_interrupted_ends_as_one_that_was_not(tmp_path: Path) -> None:
    from tests.engine.conftest import run_in_pieces

    from tutelage.models.weight_files import read_tensors

    whole = api.run(RECIPE, run_dir=tmp_path / "whole")
    assert whole.report["findings"]["answers written"] > 0
    pieces = run_in_pieces(RECIPE, tmp_path / "pieces", ("transfer", 4), ("transfer", 11))
    one, two = (read_tensors(Path(f) / "model" / "model.safetensors")[1] for f in (whole.folder, pieces))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_teacher_that_remembers_is_refused(tmp_path: Path) -> None:
    teacher = {**RECIPE["teacher"], "cache": True}
    with pytest.raises(RecipeError, match="written anew"):
        api.run({**RECIPE, "teacher": teacher}, run_dir=tmp_path / "run")
