"""Losses and gradients that are not finite end the run, with names, and leave the state from before."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.engine.conftest import InterruptAt, distillation, recipe, run, same

from tutelage import api
from tutelage.engine import checkpoint
from tutelage.engine.stopping import Interrupted
from tutelage.recipe.errors import RunError


def fault(content: dict[str, Any], folder: Path) -> tuple[str, dict[str, Any]]:
    """What is said, and what is saved."""
    with pytest.raises(RunError) as raised:
        run(content, folder)
    saved = checkpoint.latest(folder / "debug")
    assert saved is not None
    assert str(folder / "debug" / f"step-{saved[0]:010d}") in str(raised.value)
    assert raised.value.exit_code == 1
    return str(raised.value), saved[1]


def state_after(content: dict[str, Any], folder: Path, step: int) -> dict[str, Any]:
    with pytest.raises(Interrupted):
        api.run(content, run_dir=folder, listener=InterruptAt("train", step))
    found = checkpoint.latest(folder / "stages" / "train" / "checkpoints")
    assert found is not None
    return found[1]


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_an_input_that_is_not_finite_is_named_with_its_step_and_term(
    tmp_path: Path, value: str, noted: list[dict[str, Any]]
) -> None:
    clean = recipe(train={"optimizer": {"name": "sgd", "lr": 0.05}})
    run({**clean, "callbacks": ["trial-watch"]}, tmp_path / "clean")
    ids = noted[6]["ids"]
    spoilt = recipe(train=clean["train"], data={"augment": [{"name": "trial-spoil", "sample": ids[5], "value": value}]})
    # The sample comes once in every epoch: first somewhere in the first.
    text, saved = fault(spoilt, tmp_path / "run")
    assert re.search(rf"stopped at step {saved['step']} of stage 'train' \(epoch 0, turn 'train'\)", text)
    assert "the loss term 'task' is nan" in text
    assert f"the inputs of sample {ids[5]}" in text
    assert ids[5] in saved["batch"]["ids"].tolist()
    assert not torch.isfinite(saved["batch"]["inputs"]).all()
    assert saved["fault"] == {"term": "train/task", "value": "nan"}
    if saved["step"]:
        before = state_after(clean, tmp_path / "before", saved["step"])
        assert same(before["models"]["student"], saved["models"]["student"])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_infinite_loss_leaves_the_weights_from_before_it(tmp_path: Path, optimizer: str) -> None:
    content = recipe(method={"name": "trial-exploding", "at": 6}, train={"optimizer": optimizer})
    text, saved = fault(content, tmp_path / "run")
    assert "stopped at step 6 of stage 'train' (epoch 1, turn 'learn'): the loss term 'wild' is inf" in text
    calm = recipe(method={"name": "trial-exploding", "at": 99}, train={"optimizer": optimizer})
    before = state_after(calm, tmp_path / "calm", 6)
    assert same(before["models"]["student"], saved["models"]["student"])
    assert saved["step"] == 6


@pytest.mark.parametrize("clip", [None, 1.0])
def test_an_infinite_gradient_is_named_by_its_parameter(tmp_path: Path, clip: float | None) -> None:
    """Also with clipping, which would spread it over all parameters."""
    content = recipe(method={"name": "trial-exploding", "at": 3, "gradient": True}, train={"clip_norm": clip})
    text, saved = fault(content, tmp_path / "run")
    assert "step 3 of stage 'train'" in text
    assert "the gradient of student.head.bias is not finite" in text
    assert saved["fault"]["term"] == "learn/gradient"
    assert all(torch.isfinite(tensor).all() for tensor in saved["models"]["student"].values())


def test_it_is_an_event_of_the_run_and_resuming_meets_it_again(tmp_path: Path) -> None:
    content = recipe(method={"name": "trial-exploding", "at": 6}, train={"checkpoint": {"seconds": None, "steps": 2}})
    fault(content, tmp_path / "run")
    last = json.loads((tmp_path / "run" / "events.jsonl").read_text().splitlines()[-1])
    assert last["event"] == "failed"
    assert "'wild' is inf" in last["error"]
    with pytest.raises(RunError, match="stopped at step 6"):
        api.resume(tmp_path / "run")


def test_a_teacher_whose_logits_overflow_is_found_in_the_transfer_term(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    made = run(recipe(student={"model": "mlp", "hidden": [24]}, train={"epochs": 1}), tmp_path / "teacher")
    broken = {name: tensor.clone() for name, tensor in load_file(made / "model" / "model.safetensors").items()}
    broken["head.weight"].fill_(3e38)
    save_file(broken, tmp_path / "broken.safetensors")
    content = distillation(teacher={"model": "mlp", "hidden": [24], "weights": str(tmp_path / "broken.safetensors")})
    text, _ = fault(content, tmp_path / "run")
    assert "step 0 of stage 'transfer'" in text
    assert "the loss term 'transfer' is nan" in text


def test_numbers_of_the_log_that_are_not_finite_do_not_break_the_events(tmp_path: Path) -> None:
    content = recipe(callbacks=[{"name": "trial-scores", "losses": [-1.0, 2.0, 0.5]}])
    folder = run(content, tmp_path / "run")
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [e["validation"]["loss"] for e in events if e["event"] == "epoch"] == [None, 2.0, 0.5]
