"""What recipes and methods put into the loop: samplers, pools, teachers that follow, turns of their own."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.engine.conftest import distillation, run, run_in_pieces, same, stage_end, weights

from tutelage import api
from tutelage.data.batch import DataInfo
from tutelage.data.splits import TensorExamples
from tutelage.engine.method import Turn
from tutelage.engine.optimization import groups_of, movers
from tutelage.engine.optimizers import adam
from tutelage.engine.pools import Pool
from tutelage.engine.terms import Losses
from tutelage.models.ensemble import Ensemble
from tutelage.models.follower import Ema, Snapshot
from tutelage.models.mlp import MLP
from tutelage.recipe.errors import InputError, RecipeError
from tutelage.recipe.loading import load_recipe, load_train

INFO = DataInfo((1, 8, 8), 10, tuple("0123456789"), "")


def nothing(step: Any) -> Losses:
    raise AssertionError("no loss is asked for here")


def test_rates_of_single_participants_and_an_optimizer_of_a_turns_own() -> None:
    modules = {"student": torch.nn.Linear(2, 2), "method": torch.nn.Linear(2, 2)}
    settings = load_train({"optimizer": {"name": "sgd", "lr": 0.5}, "groups": [{"match": "*.bias", "lr_scale": 0.1}]})
    turn = Turn("a", nothing, scales={"method": 0.01})
    (mover,) = movers((turn,), modules, settings)
    rates = {n: g["lr"] * g["lr_scale"] for g in mover.optimizer.param_groups for n in [len(g["params"][0].shape)]}
    assert sorted(mover.base) == pytest.approx(sorted([0.5, 0.05, 0.005, 0.0005]))
    assert set(rates) == {1, 2}
    (own,) = movers((Turn("a", nothing, optimizer=partial(adam, lr=0.3)),), modules, load_train({}))
    assert type(own.optimizer).__name__ == "Adam"
    assert own.base == [0.3]


def test_a_turn_trains_what_no_other_owns() -> None:
    method = torch.nn.ModuleDict({"generator": torch.nn.Linear(2, 2), "projector": torch.nn.Linear(2, 3)})
    turns = (
        Turn("g", nothing, trains=("method",), owns=("generator",)),
        Turn("s", nothing, trains=("student", "method")),
    )
    first, second = movers(turns, {"method": method, "student": torch.nn.Linear(1, 1)}, load_train({}))
    assert {id(p) for p in first.parameters()} == {id(p) for p in method["generator"].parameters()}
    assert {id(p) for p in method["projector"].parameters()} < {id(p) for p in second.parameters()}
    assert not {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}


def test_groups_without_scales_are_the_sections() -> None:
    named = {"student.a": torch.nn.Parameter(torch.zeros(1)), "student.b": torch.nn.Parameter(torch.zeros(1))}
    groups = groups_of(named, load_train({"groups": [{"match": "b", "lr_scale": 2.0, "weight_decay": 0.5}]}).groups)
    assert [(len(g["params"]), g["lr_scale"], g.get("weight_decay")) for g in groups] == [(1, 2.0, 0.5), (1, 1.0, None)]


def test_a_pool_is_gone_through_again_and_again_from_any_place() -> None:
    from tutelage.data.loader import Loader

    examples = TensorExamples(torch.arange(5.0)[:, None], torch.zeros(5, dtype=torch.int64))
    pool = Pool(Loader(examples, batch_size=2, seed=3, shuffle=True))
    seen = [pool.batch(i) for i in range(7)]
    for epoch in range(2):
        assert sorted(x for b in seen[3 * epoch : 3 * epoch + 3] for x in b.ids.tolist()) == [0, 1, 2, 3, 4]
    fresh = Pool(Loader(examples, batch_size=2, seed=3, shuffle=True))
    assert torch.equal(fresh.batch(4).ids, seen[4].ids)
    assert torch.equal(fresh.batch(5).ids, seen[5].ids)


def test_a_moving_average_of_the_student_teaches(tmp_path: Path) -> None:
    teacher = {"model": "ema", "decay": 0.5}
    folder = run(distillation(teacher=teacher, train={"epochs": 2}), tmp_path / "run")
    report = json.loads((folder / "report.json").read_text())
    assert [row["role"] for row in report["rows"]][:2] == ["source", "recipient"]
    end = stage_end(folder, "transfer")["models"]
    assert end.keys() == {"student", "teacher"}
    # It is near the student, and not the student.
    name = "head.weight"
    apart = (end["teacher"][f"model.{name}"] - end["student"][name]).abs().max()
    assert 0 < apart < 0.1


def test_an_average_moves_by_its_decay_and_a_snapshot_stays_until_the_epoch_ends() -> None:
    student = MLP(INFO, hidden=(4,))
    average, snapshot = (
        Ema(INFO, decay=0.75, of=MLP(INFO, hidden=(4,))),
        Snapshot(INFO, every=2, of=MLP(INFO, hidden=(4,))),
    )
    for follower in (average, snapshot):
        follower.begin(student)
    start = student.head.weight.detach().clone()
    with torch.no_grad():
        student.head.weight.add_(1.0)
    average.stepped(student)
    snapshot.stepped(student)
    assert torch.allclose(average.model.head.weight, start + 0.25)
    for expected in (start, start, start + 1.0):
        assert torch.allclose(snapshot.model.head.weight, expected)
        snapshot.epoch_ended(student)
    # A stage that goes on does not start it anew.
    average.begin(student)
    assert torch.allclose(average.model.head.weight, start + 0.25)
    with pytest.raises(InputError, match="built like the student"):
        Snapshot(INFO, of=MLP(INFO, hidden=(5,))).begin(student)


@pytest.mark.parametrize("teacher", [{"model": "snapshot"}, {"model": "ema", "decay": 0.9}], ids=["snapshot", "ema"])
def test_a_teacher_that_follows_resumes_to_the_same_bits(tmp_path: Path, teacher: dict[str, Any]) -> None:
    content = distillation(teacher=teacher)
    whole = run(content, tmp_path / "whole")
    cut = run_in_pieces(content, tmp_path / "cut", ("transfer", 3), ("transfer", 6))
    assert same(weights(whole), weights(cut))
    one, two = stage_end(whole, "transfer")["models"], stage_end(cut, "transfer")["models"]
    assert same(one["teacher"], two["teacher"])


def test_members_of_an_ensemble_are_trained_one_by_one(tmp_path: Path) -> None:
    member = {"model": "mlp", "hidden": [8], "weights": {"train": {"epochs": 1}}}
    content = distillation(teacher={"model": "ensemble", "members": [member, member]}, train={"epochs": 1})
    folder = run(content, tmp_path / "run")
    stages = {path.name for path in (folder / "stages").iterdir()}
    assert {"teacher-1", "teacher-2", "transfer"} <= stages


@pytest.mark.parametrize(("shares", "of"), [(None, (0.5, 0.5)), ([3.0, 1.0], (0.75, 0.25)), ([0.0, 2.0], (0.0, 1.0))])
@pytest.mark.parametrize("average", ["probabilities", "sigmoids", "logits"])
def test_an_ensemble_says_the_mean(average: str, shares: list[float] | None, of: tuple[float, float]) -> None:
    read = {"probabilities": lambda z: z.softmax(-1), "sigmoids": torch.sigmoid, "logits": lambda z: z}[average]
    members = [MLP(INFO, hidden=(4,)), MLP(INFO, hidden=(3,))]
    inputs = torch.randn(5, 1, 8, 8)
    whole = Ensemble(INFO, members=members, average=average, shares=shares)(inputs)
    expected = sum(share * read(member(inputs)) for share, member in zip(of, members, strict=True))
    assert torch.allclose(read(whole), expected, atol=1e-6)


@pytest.mark.parametrize("shares", [[1.0], [0.0, 0.0]])
def test_an_ensemble_has_a_share_for_each_member(shares: list[float]) -> None:
    with pytest.raises(InputError, match="an ensemble of 2 members needs as many shares"):
        Ensemble(INFO, members=[MLP(INFO), MLP(INFO)], shares=shares)


def test_a_model_sees_the_channels_that_it_is_given(tmp_path: Path) -> None:
    import numpy as np

    draw = np.random.default_rng(0)
    labels = np.arange(120) % 3
    inputs = draw.normal(size=(120, 3, 4, 4)).astype(np.float32)
    inputs[:, 0, 0, 0] += 4 * labels
    np.savez(tmp_path / "data.npz", x=inputs, y=labels)
    content = {
        "method": "kd",
        "teacher": {"model": "mlp", "hidden": [8], "weights": {"train": {"epochs": 1}}},
        "student": {"model": "mlp", "hidden": [8], "channels": [2, 0]},
        "data": {"name": "npz", "path": str(tmp_path / "data.npz")},
        "train": {"epochs": 1, "batch_size": 40},
        "measure": ["accuracy"],
    }
    folder = run(content, tmp_path / "run")
    assert weights(folder)["blocks.0.0.weight"].shape == (8, 32)
    with pytest.raises(InputError, match="channels \\[3\\]: the data has 3"):
        run({**content, "student": {**content["student"], "channels": [3]}}, tmp_path / "other")


def test_a_student_with_an_adapter_is_saved_merged(tmp_path: Path) -> None:
    student = {
        "model": "mlp",
        "hidden": [8],
        "weights": {"train": {"epochs": 1}},
        "adapter": {"name": "lora", "rank": 2},
    }
    folder = run(distillation(student=student, train={"epochs": 1}), tmp_path / "run")
    before, after = stage_end(folder, "student")["models"]["student"], weights(folder)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.endswith("weight")}


def test_a_sampler_where_none_can_be(tmp_path: Path) -> None:
    content = {
        "method": "supervised",
        "student": {"model": "mlp"},
        "data": "digits",
        "sampler": "trial-twice",
    }
    with pytest.raises(RecipeError, match="takes no sampler"):
        api.run(load_recipe(content), run_dir=tmp_path / "run")


def test_a_sampler_gives_the_batch_that_is_compared_on(tmp_path: Path) -> None:
    from engine_parts import Twice

    Twice.seen.clear()
    run(distillation(sampler="trial-twice", train={"epochs": 1}), tmp_path / "run")
    assert Twice.seen
    assert all(sampled == 2 * real for real, sampled in Twice.seen)
