"""A run that is interrupted and resumed ends as the uninterrupted one, to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.engine.conftest import (
    Record,
    distillation,
    quality,
    recipe,
    run,
    run_in_pieces,
    same,
    stage_end,
    weights,
)

from tutelage import api

MOMENTUM = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True}
SHIFTED = {"augment": [{"name": "shift", "pixels": 1}]}
EVERYTHING = distillation(
    student={"model": "mlp", "hidden": [16], "dropout": 0.2},
    data={**SHIFTED, "workers": 0},
    train={
        "accumulate": 3,
        "clip_norm": 0.5,
        "optimizer": "adamw",
        "epochs": 4,
        "schedule": {"name": "cosine", "warmup": 0.2},
    },
    callbacks=[
        {"name": "ema", "decay": 0.9},
        {"name": "swa", "start": 0.5},
        {"name": "early-stopping", "patience": 3},
        "best-checkpoint",
    ],
    baseline=True,
)


def agree(first: Path, second: Path, *stages: str) -> None:
    assert same(weights(first), weights(second))
    assert quality(first) == quality(second)
    for stage in stages:
        one, two = (stage_end(folder, stage) for folder in (first, second))
        for name in one["models"]:
            assert same(one["models"][name], two["models"][name]), (stage, name)
        assert one["history"] == two["history"]


@pytest.mark.parametrize("step", [1, 4, 7, 11])
def test_with_momentum_at_several_steps(tmp_path: Path, step: int) -> None:
    content = recipe(train={"optimizer": MOMENTUM})
    whole = run(content, tmp_path / "whole")
    agree(whole, run_in_pieces(content, tmp_path / "pieces", ("train", step)), "train")


def test_with_everything_that_has_state_and_in_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(EVERYTHING, tmp_path / "whole")
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "another"))
    places = [("teacher", 3), ("transfer", 1), ("transfer", 6), ("transfer", 7), ("transfer", 12), ("baseline", 5)]
    agree(whole, run_in_pieces(EVERYTHING, tmp_path / "pieces", *places), "teacher", "transfer", "baseline")


@pytest.mark.slow
def test_with_workers_that_fetch_ahead(tmp_path: Path) -> None:
    content = recipe(data={**SHIFTED, "workers": 2}, student={"model": "mlp", "hidden": [16], "dropout": 0.2})
    whole = run(content, tmp_path / "whole")
    agree(whole, run_in_pieces(content, tmp_path / "pieces", ("train", 2), ("train", 6)), "train")
    alone = run(recipe(data=SHIFTED, student=content["student"]), tmp_path / "alone")
    assert same(weights(whole), weights(alone))


def test_without_the_newest_checkpoint(tmp_path: Path) -> None:
    content = recipe(train={"optimizer": MOMENTUM, "checkpoint": {"seconds": None, "steps": 1, "keep": 3}})
    whole = run(content, tmp_path / "whole")
    folder = tmp_path / "pieces"
    with pytest.raises(api.running.TutelageError):
        api.run(content, run_dir=folder, listener=_at(6))
    newest = folder / "stages" / "train" / "checkpoints" / "step-0000000006"
    (newest / "state.safetensors").write_bytes((newest / "state.safetensors").read_bytes()[:100])
    heard = Record()
    api.resume(folder, listener=heard)
    agree(whole, folder, "train")
    assert any(str(newest) in note and "damaged" in note for note in heard.notes)
    assert any("goes on from step 5 of 12" in note for note in heard.notes)


def test_a_stage_whose_end_is_damaged_is_finished_again(tmp_path: Path) -> None:
    content = recipe(train={"checkpoint": {"seconds": None, "steps": 2}})
    whole = run(content, tmp_path / "whole")
    folder = run(content, tmp_path / "spoilt")
    end = next((folder / "stages" / "train" / "end").glob("step-*")) / "state.safetensors"
    end.write_bytes(end.read_bytes()[:50])
    heard = Record()
    api.resume(folder, listener=heard)
    agree(whole, folder, "train")
    assert any("damaged" in note for note in heard.notes)


def test_a_finished_run_is_only_reported_again(tmp_path: Path) -> None:
    content = recipe()
    folder = run(content, tmp_path / "run")
    before, report = weights(folder), quality(folder)
    heard = Record()
    api.resume(folder, listener=heard)
    assert heard.advanced == []
    assert same(before, weights(folder))
    assert quality(folder) == report


def test_what_a_method_owns_is_there_after_its_stage_was_done(tmp_path: Path) -> None:
    """Its layer is built while it sets up, and it predicts through that layer."""
    content = recipe(method="trial-projected")
    folder = run(content, tmp_path / "run")
    report = quality(folder)
    assert stage_end(folder, "train")["method"]["seen"] == 12
    (folder / "report.json").unlink()
    api.resume(folder)
    assert quality(folder) == report


def test_an_interrupted_method_keeps_its_layer_and_its_count(tmp_path: Path) -> None:
    content = recipe(method="trial-projected", train={"optimizer": "adamw"})
    whole = run(content, tmp_path / "whole")
    pieces = run_in_pieces(content, tmp_path / "pieces", ("train", 5))
    agree(whole, pieces, "train")
    assert same(stage_end(whole, "train")["method"], stage_end(pieces, "train")["method"])


def test_two_optimisers_that_take_turns(tmp_path: Path) -> None:
    content = recipe(
        method="trial-game",
        critic={"model": "mlp", "hidden": [8]},
        train={"optimizer": MOMENTUM, "accumulate": 2},
    )
    whole = run(content, tmp_path / "whole")
    pieces = run_in_pieces(content, tmp_path / "pieces", ("train", 3), ("train", 10))
    agree(whole, pieces, "train")
    end = stage_end(whole, "train")
    assert set(end["optimizers"]) == {"critic", "student"}
    assert {"critic/judge", "student/task", "student/fooled", "critic/gradient"} <= set(end["history"][0]["losses"])


def test_stages_of_different_optimisers_follow_each_other(tmp_path: Path) -> None:
    stages = [
        {"name": "first", "train": {"epochs": 1, "optimizer": MOMENTUM}},
        {"name": "second", "train": {"epochs": 1, "optimizer": MOMENTUM}},
        {"name": "third", "train": {"epochs": 1, "optimizer": "adamw"}},
    ]
    content = recipe(stages=stages)
    whole = run(content, tmp_path / "whole")
    pieces = run_in_pieces(content, tmp_path / "pieces", ("first", 2), ("second", 2), ("third", 3))
    agree(whole, pieces, "first", "second", "third")
    assert stage_end(whole, "third")["past_epochs"] == 2
    events = [json.loads(line) for line in (pieces / "events.jsonl").read_text().splitlines()]
    assert [e["stage"] for e in events if e["event"] == "epoch"] == ["first", "second", "third"]


def test_stages_of_one_optimiser_are_one_training_in_parts(tmp_path: Path) -> None:
    train: dict[str, Any] = {"optimizer": MOMENTUM, "schedule": "constant"}
    parts = recipe(train=train, stages=[{"name": n, "train": {"epochs": 1}} for n in ("a", "b", "c")])
    whole = run(recipe(train=train), tmp_path / "whole")
    assert same(weights(whole), weights(run(parts, tmp_path / "parts")))


def _at(step: int) -> Record:
    from tests.engine.conftest import InterruptAt

    return InterruptAt("train", step)
