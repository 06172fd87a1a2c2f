"""Callbacks and trackers in real runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.engine.conftest import apart, distillation, recipe, run, run_in_pieces, same, stage_end, weights

from tutelage.recipe.errors import InputError


def scores(*losses: float) -> dict[str, Any]:
    return {"name": "trial-scores", "losses": list(losses)}


def record(folder: Path, stage: str = "train") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "stages" / stage / "record.json").read_text())
    return content


def test_a_spent_time_budget_ends_the_stage_and_is_reported(tmp_path: Path) -> None:
    content = recipe(callbacks=[{"name": "time-budget", "minutes": 1e-6}], train={"epochs": 50})
    folder = run(content, tmp_path / "run")
    assert record(folder)["steps"] == 1
    assert "the time budget of 1e-06 minutes is spent" in record(folder)["stopped"]
    report = json.loads((folder / "report.json").read_text())
    assert any("ended early: the time budget" in warning for warning in report["warnings"])


def test_a_time_budget_goes_on_where_it_was_after_an_interruption() -> None:
    from tutelage.engine.callbacks import TimeBudget

    first = TimeBudget(minutes=1.0)
    first.started(None)  # type: ignore[arg-type]
    first._began -= 50.0
    second = TimeBudget(minutes=1.0)
    second.load_state_dict(first.state_dict())
    second.started(None)  # type: ignore[arg-type]
    assert second.state_dict()["spent"] == pytest.approx(50.0, abs=1.0)


def test_what_ended_early_by_the_clock_is_not_kept_for_others(tmp_path: Path) -> None:
    content = distillation(baseline=True, callbacks=[{"name": "time-budget", "minutes": 1e-6}])
    run(content, tmp_path / "first")
    second = run(content, tmp_path / "second")
    assert not record(second, "baseline").get("reused")
    assert record(second, "teacher")["reused"]


def test_early_stopping_waits_as_long_as_it_is_told(tmp_path: Path) -> None:
    content = recipe(
        callbacks=[scores(2.0, 1.0, 1.1, 0.995, 1.2, 0.1), {"name": "early-stopping", "patience": 3, "margin": 0.01}],
        train={"epochs": 6},
    )
    folder = run(content, tmp_path / "run")
    assert record(folder)["steps"] == 20
    assert record(folder)["stopped"] == "validation loss has not improved for 3 epochs"
    again = run_in_pieces(content, tmp_path / "pieces", ("train", 13))
    assert record(again)["steps"] == 20


def test_a_score_that_is_no_number_is_never_the_best(tmp_path: Path, snapshots: list[dict[str, torch.Tensor]]) -> None:
    watching = [{"name": "early-stopping", "patience": 3}, {"name": "best-checkpoint", "metric": "loss"}]
    folder = run(recipe(callbacks=[scores(-1.0, 2.0, -1.0), *watching]), tmp_path / "run")
    assert record(folder)["stopped"] is None
    assert same(weights(folder), snapshots[1])


@pytest.mark.parametrize(("metric", "best"), [("loss", 1), ("accuracy", 1)])
def test_the_best_epoch_is_handed_on(
    tmp_path: Path, snapshots: list[dict[str, torch.Tensor]], metric: str, best: int
) -> None:
    callbacks = [scores(0.9, 0.2, 0.5), {"name": "best-checkpoint", "metric": metric}]
    folder = run(recipe(callbacks=callbacks), tmp_path / "run")
    assert same(weights(folder), snapshots[best])
    assert not same(weights(folder), snapshots[-1])


def test_averages_are_handed_on(tmp_path: Path, snapshots: list[dict[str, torch.Tensor]]) -> None:
    """The mean of the last two of four epochs."""
    content = recipe(callbacks=[scores(4.0, 3.0, 2.0, 1.0), {"name": "swa", "start": 0.5}], train={"epochs": 4})
    folder = run(content, tmp_path / "run")
    mean = {name: (snapshots[2][name] + snapshots[3][name]) / 2 for name in snapshots[3]}
    assert apart(weights(folder), mean) < 1e-6
    still = recipe(callbacks=[scores(3.0, 2.0, 1.0), {"name": "ema", "decay": 0.9999999}])
    late = weights(run(still, tmp_path / "still"))
    start = weights(run(recipe(train={"optimizer": {"name": "sgd", "lr": 1e-30}}), tmp_path / "start"))
    assert apart(late, start) < 1e-4 < apart(weights(folder), start)


@pytest.mark.parametrize("name", ["early-stopping", "best-checkpoint"])
def test_watching_without_validation_is_refused(tmp_path: Path, name: str) -> None:
    content = recipe(data={"validation_fraction": 0.0}, callbacks=[name])
    with pytest.raises(InputError, match=f"'{name}' watches the validation .*validation_fraction"):
        run(content, tmp_path / "run")


def test_tensorboard_gets_every_epochs_numbers(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = run(distillation(trackers=["tensorboard"]), tmp_path / "run")
    (place,) = {
        path.parent for path in (folder / "trackers").rglob("events.out.tfevents*") if path.parent.name == "engine"
    }
    events = EventAccumulator(str(place))
    events.Reload()
    for stage, turn in (("teacher", "train"), ("transfer", "transfer")):
        history = record(folder, stage)["history"]
        for tag, wanted in (
            (f"{stage}/{turn}/loss", [epoch["losses"][f"{turn}/loss"] for epoch in history]),
            (f"{stage}/validation/accuracy", [epoch["validation"]["accuracy"] for epoch in history]),
        ):
            assert [event.value for event in events.Scalars(tag)] == pytest.approx(wanted, abs=1e-6), tag
    # A tracker's steps never go back, also from one stage to the next.
    assert [event.step for event in events.Scalars("teacher/train/loss")] == [4, 8]
    assert [event.step for event in events.Scalars("transfer/transfer/loss")] == [12, 16, 20]


def test_a_tracker_that_is_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    if importlib.util.find_spec("wandb") is not None:
        pytest.skip("wandb is installed here")
    with pytest.raises(InputError, match=r"wandb"):
        run(recipe(trackers=["wandb"]), tmp_path / "run")


def test_half_precision_that_the_device_lacks_is_refused(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU, which has it")
    with pytest.raises(InputError, match=r"train\.precision.*fp16"):
        run(recipe(train={"precision": "fp16"}), tmp_path / "run")


def test_the_state_of_callbacks_is_in_the_end_of_a_stage(tmp_path: Path) -> None:
    folder = run(recipe(callbacks=["ema", "early-stopping"]), tmp_path / "run")
    average, stopping = stage_end(folder, "train")["callbacks"]
    assert average["count"] == 12
    assert set(stopping) == {"best", "waited"}
