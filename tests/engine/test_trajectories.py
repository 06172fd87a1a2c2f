"""Averages over a training run: what is averaged, when it begins and ends, and that a resumed run averages the same."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.engine.conftest import distillation, recipe, run, run_in_pieces, same, stage_end, weights
from torch import nn

from tutelage.data.batch import DataInfo
from tutelage.data.domains import Domains
from tutelage.data.splits import Splits, TensorExamples
from tutelage.engine.looking import check_validation
from tutelage.engine.trajectories import DenseAverage, SimpleMovingAverage, StochasticWeightAverageDensely, first_step
from tutelage.engine.valley import Valley
from tutelage.recipe import load_recipe
from tutelage.recipe.errors import InputError, RecipeError

LOSSES = [1.0, 0.8, 0.6, 0.5, 0.4, 0.45, 0.42, 0.41, 0.43, 0.44, 0.60, 0.61, 0.62, 0.63, 0.64, 0.65, 0.66]


class Stub:
    """What a callback sees of a trainer: one number as a model, and steps."""

    def __init__(self, total: int) -> None:
        self.subject = nn.Linear(1, 1, bias=False)
        self.step, self.total, self.stopped = 0, total, None
        self.validation: Any = [0]
        self.splits = SimpleNamespace(domains=None)
        self.device = torch.device("cpu")
        self.stage = SimpleNamespace(name="transfer")
        self.notes: list[str] = []
        self.listener = SimpleNamespace(note=self.notes.append)

    def batches(self, epoch: int) -> list[Any]:
        return []

    def be(self, value: float) -> None:
        with torch.no_grad():
            self.subject.weight.fill_(value)


def trajectory(callback: Any, values: list[float]) -> float:
    """The weight that a callback hands on after a run through these."""
    trainer = Stub(len(values))
    trainer.be(values[0])
    callback.started(trainer)
    for value in values:
        trainer.be(value)
        trainer.step += 1
        callback.stepped(trainer, None)
    callback.finished(trainer)
    return trainer.subject.weight.item()


def test_the_mean_of_a_trajectory() -> None:
    values = [4.0, 2.0, 3.0, 1.0, 2.0]
    assert trajectory(DenseAverage(start=1), values) == pytest.approx(2.4, abs=1e-7)
    assert trajectory(DenseAverage(start=5), values) == 2.0
    assert trajectory(DenseAverage(start=3), values) == pytest.approx(2.0, abs=1e-7)
    assert trajectory(DenseAverage(start=1, stride=2), values) == pytest.approx(3.0, abs=1e-7)
    assert trajectory(DenseAverage(start=0.4), values) == pytest.approx(8 / 4, abs=1e-7)
    assert trajectory(DenseAverage(start=0.0), [7.5] * 9) == 7.5


def test_the_start_is_a_step_or_a_share() -> None:
    assert first_step(5000, 50_000, "wakd") == 5000
    assert first_step(0.1, 50_000, "wakd") == 5000
    assert first_step(0.0, 10, "wakd") == 1
    with pytest.raises(InputError, match="'sma' starts at step 11, but the stage has 10 steps: choose at most 10"):
        first_step(11, 10, "sma")


def fed(losses: list[float], **keys: Any) -> Valley:
    valley = Valley(**keys)
    for number, loss in enumerate(losses, 1):
        valley.add(loss, {"w": torch.tensor(float(number)), "count": torch.tensor(number)})
    return valley


def test_a_valley_begins_and_ends_where_it_should() -> None:
    valley = fed(LOSSES)
    assert valley.threshold == pytest.approx(0.5503333, abs=1e-6)
    assert valley.blocks == list(range(4, 13))
    assert valley.ended
    assert valley.average is not None
    assert valley.average["w"].item() == pytest.approx(8.0)
    valley.finish()
    assert valley.blocks == list(range(4, 13))


def test_what_waits_at_the_end_belongs_to_the_valley() -> None:
    valley = fed(LOSSES[:10])
    assert valley.blocks == [4, 5, 6]
    assert not valley.ended
    valley.finish()
    assert valley.blocks == [4, 5, 6, 7, 8, 9, 10]
    assert valley.average is not None
    assert valley.average["w"].item() == pytest.approx(7.0)


def test_a_loss_that_only_falls_has_no_valley() -> None:
    valley = fed([1.0 / n for n in range(1, 30)])
    valley.finish()
    assert valley.average is None
    assert valley.blocks == []


@pytest.mark.parametrize("cut", [2, 5, 8, 12, 16])
def test_a_valley_goes_on_from_its_state(cut: int) -> None:
    whole, first = fed(LOSSES), fed(LOSSES[:cut])
    second = Valley()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for number, loss in enumerate(LOSSES[cut:], cut + 1):
        second.add(loss, {"w": torch.tensor(float(number)), "count": torch.tensor(number)})
    assert second.blocks == whole.blocks
    assert torch.equal(second.average["w"], whole.average["w"])


def test_swad_averages_blocks_of_which_each_is_a_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter(LOSSES)
    monkeypatch.setattr("tutelage.engine.trajectories.loss_of", lambda trainer: next(losses))
    # Block b of two steps is b - 0.5 and b + 0.5: its mean is b, and blocks 4 to 12 have the mean 8.
    values = [b + d for b in range(1, 18) for d in (-0.5, 0.5)]
    assert trajectory(StochasticWeightAverageDensely(validate_every=2), values) == pytest.approx(8.0, abs=1e-6)


def test_swad_looks_at_the_last_weights_and_keeps_the_best_of_them_without_a_valley(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def loss(trainer: Any) -> float:
        seen.append(trainer.subject.weight.item())
        return [3.0, 2.0, 1.0][len(seen) - 1]

    monkeypatch.setattr("tutelage.engine.trajectories.loss_of", loss)
    assert trajectory(StochasticWeightAverageDensely(validate_every=2), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]) == 6.0
    assert seen == [2.0, 4.0, 6.0]


def test_sma_hands_on_the_mean_that_validated_best(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def scores(trainer: Any) -> dict[str, float]:
        seen.append(trainer.subject.weight.item())
        return {"accuracy": -abs(trainer.subject.weight.item() - 3.1)}

    monkeypatch.setattr("tutelage.engine.trajectories.scores_of", scores)
    monkeypatch.setattr("tutelage.engine.trajectories.plain_batches", lambda trainer: [])
    values = [1.0, 3.0, 5.0, 3.0, 9.0, 9.0, 9.0]
    assert trajectory(SimpleMovingAverage(start=1, validate_every=2), values) == pytest.approx(3.0)
    assert seen == pytest.approx([2.0, 3.0, 5.0, 39 / 7])


AVERAGES = [
    {"name": "wakd", "start": 4, "stride": 2},
    {"name": "sma", "start": 3, "validate_every": 3},
    {"name": "swad", "validate_every": 1, "n_converge": 1, "n_tolerance": 2},
]


@pytest.mark.parametrize("callback", AVERAGES, ids=lambda c: c["name"])
def test_a_resumed_run_averages_the_same(tmp_path: Path, callback: dict[str, Any]) -> None:
    content = distillation(callbacks=[callback], train={"epochs": 3, "checkpoint": {"seconds": None, "steps": 1}})
    whole = run(content, tmp_path / "whole")
    assert same(weights(run_in_pieces(content, tmp_path / "pieces", ("transfer", 7))), weights(whole))
    plain = run({**content, "callbacks": []}, tmp_path / "plain")
    assert not same(weights(plain), weights(whole))


def test_what_swad_looks_at_is_what_the_method_minimises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tutelage.engine import trajectories
    from tutelage.engine.looking import loss_of

    seen: list[tuple[float, float]] = []

    def noted(trainer: Any) -> float:
        from tutelage.losses import kl_divergence

        batch = trainer.validation.fetch(range(len(trainer.validation)))
        models = trainer.stage.models
        training = {name: model.training for name, model in models.items()}
        with torch.no_grad():
            logits = {name: model.eval()(batch.inputs) for name, model in models.items()}
        for name, model in models.items():
            model.train(training[name])
        expected = kl_divergence(logits["student"], logits["teacher"], temperature=3.0).mean().item()
        found = loss_of(trainer)
        assert {name: model.training for name, model in models.items()} == training
        seen.append((found, expected))
        return found

    monkeypatch.setattr(trajectories, "loss_of", noted)
    run(
        distillation(
            method={"name": "kd", "alpha": 0.0, "temperature": 3.0}, callbacks=[{"name": "swad", "validate_every": 4}]
        ),
        tmp_path / "run",
    )
    assert len(seen) == 3
    for found, expected in seen:
        assert found == pytest.approx(expected, rel=1e-4)


def test_nothing_is_decided_without_validation_or_by_the_held_out_domain(tmp_path: Path) -> None:
    for callback in AVERAGES[1:]:
        with pytest.raises(InputError, match=f"'{callback['name']}' watches the validation .* no validation split"):
            run(recipe(callbacks=[callback], data={"validation_fraction": 0.0}), tmp_path / "run")
    part = TensorExamples(torch.zeros(2, 1), torch.tensor([0, 1]), torch.tensor([0, 1]))
    domains = Domains(("a", "b"), torch.tensor([0, 1]), held_out=(1,))
    splits = Splits(part, part, part, DataInfo((1,), 2, ("x", "y"), ""), domains=domains)
    with pytest.raises(InputError, match="callbacks: 'swad' would be chosen by samples of the held-out domain 'b'"):
        check_validation(SimpleNamespace(validation=part, splits=splits), "swad", "loss")  # type: ignore[arg-type]


def test_a_source_is_averaged_while_it_is_trained(tmp_path: Path) -> None:
    teacher = {"model": "mlp", "hidden": [24], "weights": {"train": {"epochs": 2}}}
    averaged = {**teacher, "weights": {**teacher["weights"], "callbacks": [{"name": "wakd", "start": 2}]}}
    plain, other = (run(distillation(teacher=t), tmp_path / n) for t, n in ((teacher, "plain"), (averaged, "other")))
    ends = [stage_end(folder, "teacher")["models"]["teacher"] for folder in (plain, other)]
    assert not same(*ends)
    with pytest.raises(RecipeError, match="'weights' has no key 'callback'"):
        load_recipe(distillation(teacher={**teacher, "weights": {**teacher["weights"], "callback": []}}))
    with pytest.raises(RecipeError, match="there is no callback named 'swa1'"):
        load_recipe(distillation(teacher={**teacher, "weights": {**teacher["weights"], "callbacks": ["swa1"]}}))
