"""What a step does, and what may not change its result."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.engine.conftest import Record, apart, distillation, recipe, run, same, stage_end, weights

from tutelage import api
from tutelage.recipe import load_recipe
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import registry

SGD = {"name": "sgd", "lr": 0.05}
OPTIMIZERS = registry().names("optimizer")


def test_one_step_of_sgd_is_what_a_hand_computes(tmp_path: Path, noted: list[dict[str, Any]]) -> None:
    plain = {"name": "sgd", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.01}
    content = recipe(
        data={"limit": 50},
        train={"epochs": 1, "batch_size": 50, "optimizer": plain, "schedule": "constant"},
        callbacks=["trial-watch"],
    )
    after = weights(run(content, tmp_path / "run"))
    loaded = load_recipe(content)
    splits = loaded.slots["data"].build().load(loaded.seed)
    from tutelage.engine.randomness import reseed

    reseed(loaded.seed, "student", 0)
    model = loaded.slots["student"].build(splits.info)
    (step,) = noted
    labels = dict(zip(splits.train.ids.tolist(), splits.train.labels.tolist(), strict=True))
    loss = torch.nn.functional.cross_entropy(model(step["inputs"]), torch.tensor([labels[i] for i in step["ids"]]))
    loss.backward()
    expected = {name: p - 0.1 * (p.grad + 0.01 * p) for name, p in model.named_parameters()}
    assert apart(after, {name: tensor.detach() for name, tensor in expected.items()}) < 1e-6


@pytest.mark.parametrize("parts", [3, 4, 32])
@pytest.mark.parametrize("optimizer", [SGD, {"name": "adamw", "lr": 1e-3, "eps": 1e-3}], ids=["sgd", "adamw"])
def test_accumulating_does_not_change_the_result(tmp_path: Path, parts: int, optimizer: dict[str, Any]) -> None:
    """Also where the batch of 32 and the last one of 24 do not divide by the parts, or have fewer samples."""
    train = {"optimizer": optimizer, "clip_norm": 0.5}
    whole = run(distillation(train=train), tmp_path / "whole")
    pieces = run(distillation(train={**train, "accumulate": parts}), tmp_path / "pieces")
    assert apart(weights(whole), weights(pieces)) < 1e-6
    one, two = (stage_end(f, "transfer")["history"][-1]["losses"] for f in (whole, pieces))
    assert one == pytest.approx(two, abs=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_steps_and_resumes_its_state(tmp_path: Path, name: str) -> None:
    from tests.engine.conftest import run_in_pieces

    content = recipe(train={"epochs": 2, "optimizer": name, "schedule": "constant"})
    whole = run(content, tmp_path / "whole")
    history = stage_end(whole, "train")["history"]
    assert history[1]["losses"]["train/loss"] < history[0]["losses"]["train/loss"]
    assert same(weights(whole), weights(run_in_pieces(content, tmp_path / "pieces", ("train", 5))))


def test_the_rate_of_every_step_is_the_schedules(tmp_path: Path, noted: list[dict[str, Any]]) -> None:
    schedule = {"name": "cosine", "warmup": 0.25, "floor": 0.1}
    groups = [{"match": "head.*", "lr_scale": 0.5}, {"match": "*.bias", "lr_scale": 0.0, "weight_decay": 0.0}]
    content = recipe(train={"optimizer": SGD, "schedule": schedule, "groups": groups}, callbacks=["trial-watch"])
    run(content, tmp_path / "run")
    assert len(noted) == 12
    for step, one in enumerate(noted):
        share = (step - 3) / 9
        factor = (step + 1) / 4 if step < 3 else 0.1 + 0.9 * (1 + math.cos(math.pi * share)) / 2
        assert one["rates"] == pytest.approx([0.05 * 0.5 * factor, 0.0, 0.05 * factor]), step


def test_a_group_keeps_to_its_own_rate_and_decay(tmp_path: Path) -> None:
    """A rate of 0 moves nothing; a decay of its own moves what has no gradient."""
    groups = [{"match": "head.*", "lr_scale": 0.0}]
    folder = run(recipe(train={"optimizer": SGD, "groups": groups}), tmp_path / "run")
    start = run(recipe(train={"optimizer": {"name": "sgd", "lr": 1e-30}}), tmp_path / "start")
    after, before = weights(folder), weights(start)
    assert torch.equal(after["head.weight"], before["head.weight"])
    assert not torch.equal(after["blocks.0.0.weight"], before["blocks.0.0.weight"])
    saved = stage_end(folder, "train")["optimizers"]["train"]
    assert [name for name, _ in saved["makeup"][1]] == ["student.head.weight", "student.head.bias"]
    decayed = recipe(train={"optimizer": SGD, "groups": [{"match": "head.weight", "weight_decay": 0.9}]})
    assert weights(run(decayed, tmp_path / "decayed"))["head.weight"].norm() < before["head.weight"].norm() * 0.9


def test_a_group_that_matches_nothing_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    content = distillation(train={"groups": [{"match": "haed.weight"}]})
    with pytest.raises(InputError, match=r"train\.groups: 'haed\.weight' matches none of .*'head\.weight'"):
        run(content, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_group_of_what_only_the_method_owns_does_not_stop_the_control(tmp_path: Path) -> None:
    content = recipe(
        method="trial-projected", train={"groups": [{"match": "method.projector.*", "lr_scale": 2.0}]}, baseline=True
    )
    folder = run(content, tmp_path / "run")
    assert (folder / "stages" / "baseline" / "record.json").is_file()


def test_a_ramp_moves_with_the_steps(tmp_path: Path, noted: list[dict[str, Any]]) -> None:
    ramp = {"name": "linear", "start": 8.0, "end": 2.0, "until": 0.5}
    content = distillation(method={"name": "kd", "temperature": ramp}, callbacks=["trial-watch"], train={"epochs": 2})
    run(content, tmp_path / "run")
    temperatures = [one["temperature"] for one in noted if one["stage"] == "transfer"]
    assert temperatures == pytest.approx([8.0, 6.5, 5.0, 3.5, 2.0, 2.0, 2.0, 2.0])


def test_samples_and_views_are_a_function_of_seed_and_epoch(tmp_path: Path, noted: list[dict[str, Any]]) -> None:
    content = recipe(data={"augment": ["shift"]}, callbacks=["trial-watch"])
    run(content, tmp_path / "first")
    first = list(noted)
    noted.clear()
    run(content, tmp_path / "second")
    assert [one["ids"] for one in first] == [one["ids"] for one in noted]
    assert all(torch.equal(a["inputs"], b["inputs"]) for a, b in zip(first, noted, strict=True))
    epochs = [sorted(i for one in first[e * 4 : e * 4 + 4] for i in one["ids"]) for e in range(3)]
    assert epochs[0] == epochs[1] == epochs[2]
    assert len(set(epochs[0])) == 120
    assert first[0]["ids"] != first[4]["ids"]
    assert len({seed for one in first for seed in one["seeds"]}) == 360
    noted.clear()
    run({**content, "seed": 4}, tmp_path / "third")
    assert first[0]["ids"] != noted[0]["ids"]


def test_the_control_sees_the_same_batches_from_the_same_start(tmp_path: Path, noted: list[dict[str, Any]]) -> None:
    """With all weight on the labels, the transfer is the control."""
    content = distillation(
        method={"name": "kd", "alpha": 1.0}, data={"augment": ["shift"]}, baseline=True, callbacks=["trial-watch"]
    )
    folder = run(content, tmp_path / "run")
    transfer = [one for one in noted if one["stage"] == "transfer"]
    control = [one for one in noted if one["stage"] == "baseline"]
    assert [one["ids"] for one in transfer] == [one["ids"] for one in control]
    assert all(torch.equal(a["inputs"], b["inputs"]) for a, b in zip(transfer, control, strict=True))
    ends = [stage_end(folder, stage)["models"]["student"] for stage in ("transfer", "baseline")]
    assert apart(*ends) < 1e-6


def test_the_control_of_a_student_that_was_trained_first_starts_where_it_did(tmp_path: Path) -> None:
    student = {"model": "mlp", "hidden": [16], "weights": {"train": {"epochs": 1}}}
    content = distillation(method={"name": "kd", "alpha": 0.0}, student=student, baseline=True)
    folder = run(content, tmp_path / "run")
    ends = {stage: stage_end(folder, stage)["models"]["student"] for stage in ("student", "transfer", "baseline")}
    assert not same(ends["transfer"], ends["baseline"])
    assert same(ends["transfer"], weights(folder))
    alone = recipe(student=student)
    again = run({**alone, "method": "supervised"}, tmp_path / "alone")
    assert same(stage_end(again, "student")["models"]["student"], ends["student"])


def test_two_runs_in_one_process_do_not_touch_each_other(tmp_path: Path) -> None:
    first, other = distillation(), recipe(data={"augment": ["shift"]}, train={"precision": "bf16"}, seed=9)
    alone = weights(run(first, tmp_path / "alone"))
    run(other, tmp_path / "other")
    assert same(alone, weights(run(first, tmp_path / "again")))


def test_a_recipe_is_never_changed(tmp_path: Path) -> None:
    content = distillation(
        callbacks=["ema"],
        baseline=True,
        method={"name": "kd", "temperature": {"name": "linear", "start": 1.0, "end": 4.0}},
    )
    before = copy.deepcopy(content)
    loaded = load_recipe(content)
    text = loaded.to_yaml()
    api.run(loaded, run_dir=tmp_path / "run")
    assert content == before
    assert loaded.to_yaml() == text
    assert loaded == load_recipe(content)


def test_the_same_training_is_found_again_and_another_is_not(tmp_path: Path) -> None:
    content = distillation(baseline=True)
    first = run(content, tmp_path / "first")
    heard = Record()
    second = run(content, tmp_path / "second", heard)
    assert {task for task, _ in heard.advanced} == {"transfer"}
    for stage in ("teacher", "baseline"):
        assert not json.loads((first / "stages" / stage / "record.json").read_text()).get("reused")
        assert json.loads((second / "stages" / stage / "record.json").read_text())["reused"] is True
        one, two = (stage_end(folder, stage)["models"] for folder in (first, second))
        assert all(same(one[name], two[name]) for name in one)
    assert same(weights(first), weights(second))
    longer = distillation(baseline=True, teacher={"model": "mlp", "hidden": [24], "weights": {"train": {"epochs": 3}}})
    heard = Record()
    run(longer, tmp_path / "third", heard)
    assert {task for task, _ in heard.advanced} == {"teacher", "transfer"}


def test_weights_that_changed_under_the_same_path_are_not_taken_for_the_old(tmp_path: Path) -> None:
    """The control begins from the student's own weights, which a path only names."""
    import shutil

    made = [run(recipe(seed=seed, train={"epochs": 1}), tmp_path / f"made{seed}") for seed in (1, 2)]
    path = tmp_path / "start.safetensors"
    content = distillation(student={"model": "mlp", "hidden": [16], "weights": str(path)}, baseline=True)
    ends = []
    for source in made:
        shutil.copy(source / "model" / "model.safetensors", path)
        folder = run(content, tmp_path / source.name.replace("made", "run"))
        ends.append(stage_end(folder, "baseline")["models"]["student"])
    assert not same(*ends)


def test_a_damaged_cache_is_trained_again_and_mended(tmp_path: Path) -> None:
    content = distillation()
    first = run(content, tmp_path / "first")
    for file in (tmp_path / "cache" / "trained").rglob("state.safetensors"):
        file.write_bytes(b"")
    second = run(content, tmp_path / "second")
    assert same(weights(first), weights(second))
    heard = Record()
    run(content, tmp_path / "third", heard)
    assert {task for task, _ in heard.advanced} == {"transfer"}


def test_what_is_frozen_does_not_move(tmp_path: Path, snapshots: list[dict[str, torch.Tensor]]) -> None:
    """Neither by gradient, weight decay or momentum, nor in the statistics of batch normalisation."""
    decay = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}
    model = {"model": "trial-norm", "freeze": ["body"]}
    content = distillation(
        student=model, train={"optimizer": decay}, callbacks=[{"name": "trial-scores", "losses": [3.0, 2.0, 1.0]}]
    )
    folder = run(content, tmp_path / "run")
    after = weights(folder)
    first = snapshots[0]
    from tutelage.engine.randomness import reseed

    loaded = load_recipe(content)
    reseed(loaded.seed, "student", 0)
    start = loaded.slots["student"].build(loaded.slots["data"].build().load(0).info).state_dict()
    body = [name for name in after if name.startswith("body")]
    assert {"body.2.running_mean", "body.2.num_batches_tracked", "body.1.weight"} <= set(body)
    for name in body:
        assert torch.equal(after[name], start[name]), name
        assert torch.equal(first[name], start[name]), name
    assert not torch.equal(after["head.weight"], start["head.weight"])
    loose = weights(run(distillation(student="trial-norm", train={"optimizer": decay}), tmp_path / "loose"))
    assert not torch.equal(loose["body.2.running_mean"], start["body.2.running_mean"])


def test_the_teacher_does_not_move(tmp_path: Path) -> None:
    content = distillation(teacher={"model": "trial-norm", "weights": {"train": {"epochs": 1}}})
    folder = run(content, tmp_path / "run")
    assert set(stage_end(folder, "transfer")["models"]) == {"student"}
    content["train"] = {**content["train"], "epochs": 1}
    other = run(content, tmp_path / "other")
    first, second = (json.loads((f / "report.json").read_text())["arrived"]["source"] for f in (folder, other))
    assert first == second


def test_a_turn_moves_only_whom_it_trains(tmp_path: Path) -> None:
    """The critic's loss reaches the student, too, and its gradients there must not count in the student's turn."""
    sgd = {"name": "sgd", "lr": 0.05, "momentum": 0.0, "weight_decay": 0.0}
    alone = recipe(train={"optimizer": sgd, "epochs": 1})
    game = {
        **alone,
        "method": {"name": "trial-game", "weight": 0.0},
        "critic": {"model": "mlp", "hidden": [8]},
    }
    assert apart(weights(run(alone, tmp_path / "alone")), weights(run(game, tmp_path / "game"))) < 1e-6


def test_bf16_runs_and_leaves_a_plain_model(tmp_path: Path) -> None:
    """What is predicted once the training is over is the same whether the model was trained just now or loaded."""
    from tests.engine.conftest import quality, run_in_pieces

    content = distillation(train={"precision": "bf16"}, baseline=True)
    whole = run(content, tmp_path / "whole")
    history = stage_end(whole, "transfer")["history"]
    assert history[-1]["losses"]["transfer/loss"] < history[0]["losses"]["transfer/loss"]
    full = run(distillation(baseline=True), tmp_path / "full")
    assert 0 < apart(weights(whole), weights(full)) < 0.05
    again = run_in_pieces(content, tmp_path / "pieces", ("transfer", 5))
    assert same(weights(whole), weights(again))
    assert quality(whole) == quality(again)


@pytest.mark.slow
def test_compiled_models_learn_the_same(tmp_path: Path) -> None:
    plain = run(recipe(train={"epochs": 2}), tmp_path / "plain")
    compiled = run(recipe(train={"epochs": 2, "compile": True}), tmp_path / "compiled")
    assert apart(weights(plain), weights(compiled)) < 1e-4
