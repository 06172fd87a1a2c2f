"""A teacher whose logits were stored teaches as the live one does, and only what it was stored for."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.engine.conftest import Record, distillation, run, same, stage_end, weights
from torch import nn

from tutelage import api
from tutelage.data.batch import Batch
from tutelage.data.seeds import mix, shuffle
from tutelage.data.store import Layout, Store
from tutelage.engine import storing
from tutelage.engine.stopping import Interrupted
from tutelage.models.mlp import MLP
from tutelage.models.participant import Participant
from tutelage.models.stored import Stored
from tutelage.recipe.errors import InputError, RecipeError
from tutelage.recipe.loading import load_recipe

EXACT = {"views": 2, "dtype": "fp32"}
AUGMENT = [{"name": "shift", "pixels": 1}]


def recipe(store: Mapping[str, Any] | None, **changes: Any) -> dict[str, Any]:
    """Four epochs of views that repeat after two."""
    teacher = {"model": "mlp", "hidden": [24], "weights": {"train": {"epochs": 2}}, "store": store}
    teacher |= changes.pop("teacher", {})
    data = {"augment": AUGMENT, **changes.pop("data", {})}
    return distillation(teacher=teacher, data=data, train={"epochs": 4, **changes.pop("train", {})}, **changes)


def folder_of(root: Path) -> Path:
    """The only store in this test's cache."""
    (found,) = (root / "cache" / "stores").iterdir()
    return found


def losses(folder: Path) -> list[Any]:
    return [epoch["losses"] for epoch in stage_end(folder, "transfer")["history"]]


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Any:
    """From now on, a teacher that is asked at every step, of the same two views."""

    def begin() -> None:
        monkeypatch.setattr(storing, "replayed", lambda stage, recipe: replace(stage, views=2))

    return begin


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that the teacher was run on."""
    seen: list[int] = []
    plain = MLP.forward

    def counted(self: MLP, inputs: torch.Tensor) -> torch.Tensor:
        if self.head.in_features == 24:
            seen.append(len(inputs))
        return plain(self, inputs)

    monkeypatch.setattr(MLP, "forward", counted)
    return seen


@pytest.mark.parametrize(
    ("top_k", "changes"),
    [
        (None, {}),
        (10, {"train": {"accumulate": 3}, "method": {"name": "wttm", "exponent": 0.5}}),
        (None, {"method": "kd", "also": ["ttm"]}),
    ],
)
def test_all_classes_in_full_precision_teach_as_the_live_teacher_to_the_bit(
    top_k: int | None, changes: dict[str, Any], tmp_path: Path, live: Any
) -> None:
    first = run(recipe({**EXACT, "top_k": top_k}, **changes), tmp_path / "stored")
    live()
    second = run(recipe(None, **changes), tmp_path / "live")
    assert same(weights(first), weights(second))
    assert losses(first) == losses(second)


def test_the_teacher_is_run_once_a_view_and_never_while_it_teaches(tmp_path: Path, forwards: list[int]) -> None:
    content = recipe(EXACT)
    run(recipe(None), tmp_path / "live")
    trained = forwards.count(32) - 4 * 3
    forwards.clear()
    first = run(content, tmp_path / "first")
    assert forwards.count(32) == 2 * 3, "three whole batches of each view, and no training"
    forwards.clear()
    second = run(content, tmp_path / "second")
    assert forwards.count(32) == 0
    assert trained == 2 * 3
    assert same(weights(first), weights(second))


def test_a_store_says_what_it_takes(tmp_path: Path) -> None:
    heard = Record()
    run(recipe({"views": 3, "top_k": 4}), tmp_path / "run", heard)
    assert any("20 bytes a sample and view, 3 views of 120 samples" in note for note in heard.notes)
    assert json.loads((folder_of(tmp_path) / "store.json").read_text())["bytes_per_sample"] == 4 * 2 + 4 * 2 + 4
    assert ("transfer: storing the teacher", 360) in heard.advanced


def test_a_check_says_what_a_store_takes_and_saves() -> None:
    from tutelage.api.checking import estimate

    live, stored = (estimate(load_recipe(recipe(store))) for store in (None, {"views": 1, "top_k": 4}))
    assert stored["models"]["teacher"]["store_bytes"] == 20 * 1 * 120
    assert "store_bytes" not in live["models"]["teacher"]
    saved = 3 * 120 * live["models"]["teacher"]["flops"]
    assert live["flops"] - stored["flops"] == pytest.approx(saved)
    with pytest.raises(InputError, match=r"teacher\.store\.top_k 11"):
        estimate(load_recipe(recipe({"top_k": 11})))


def test_few_logits_in_half_precision_teach_almost_the_same(tmp_path: Path, live: Any) -> None:
    first = run(recipe({"views": 2, "top_k": 9}), tmp_path / "stored")
    other = run(recipe({"views": 2, "top_k": 1, "fill": "zero"}), tmp_path / "one")
    live()
    second = run(recipe(None), tmp_path / "live")
    for one, two in zip(losses(first), losses(second), strict=True):
        assert one["transfer/transfer"] == pytest.approx(two["transfer/transfer"], rel=0.1)
    assert losses(other)[0]["transfer/transfer"] != pytest.approx(losses(second)[0]["transfer/transfer"], rel=0.1)


def test_the_control_sees_the_same_views_and_fresh_ones_without_a_store(tmp_path: Path, live: Any) -> None:
    """A method that ignores its teacher ends where the control ends."""
    alone = {"method": {"name": "kd", "alpha": 1.0}, "baseline": True}
    stored, fresh = run(recipe(EXACT, **alone), tmp_path / "a"), run(recipe(None, **alone), tmp_path / "b")
    ends = []
    for folder in (stored, fresh):
        ends.append(stage_end(folder, "transfer")["models"]["student"])
        assert same(ends[-1], stage_end(folder, "baseline")["models"]["student"])
    assert not same(*ends)


def test_inconsistent_views_are_new_ones_with_scores_of_old_ones(tmp_path: Path) -> None:
    ends = {
        name: weights(run(recipe(store), tmp_path / name))
        for name, store in (("kept", EXACT), ("old", {**EXACT, "consistent": False}), ("none", None))
    }
    assert not same(ends["kept"], ends["old"])
    assert not same(ends["none"], ends["old"])
    folder_of(tmp_path)


def test_each_generation_is_stored_for_the_next(tmp_path: Path) -> None:
    method = {"name": "born-again", "generations": 2, "ensemble": "none"}
    content = recipe(EXACT, method=method, student={"model": "mlp", "hidden": [24]}, train={"epochs": 2})
    stored = run(content, tmp_path / "stored")
    assert len(list((tmp_path / "cache" / "stores").iterdir())) == 2
    # Two epochs see two views, with or without a store.
    live = run(recipe(None, **{key: content[key] for key in ("method", "student", "train")}), tmp_path / "live")
    assert same(weights(stored), weights(live))


# ------------------------------------------------------------------ kills and damage


def test_killed_while_storing_the_rest_is_stored_when_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tutelage.data.store._SHARD_BYTES", 2000)
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "other"))
    whole = run(recipe(EXACT), tmp_path / "whole")
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    child = os.fork()
    if child == 0:
        write = Store.write

        def last(self: Store, shard: Any, rows: Any) -> None:
            if (shard.view, shard.number) == (1, 1):
                os.kill(os.getpid(), signal.SIGKILL)
            write(self, shard, rows)

        Store.write = last  # type: ignore[method-assign]
        run(recipe(EXACT), tmp_path / "run")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    before = sorted(path.name for path in folder_of(tmp_path).rglob("0*.npy"))
    assert before == ["000000.npy", "000000.npy", "000001.npy", "000002.npy", "000003.npy"][: len(before)]
    assert len(before) < len(list((tmp_path / "other").rglob("view-*/*.npy")))
    heard = Record()
    api.resume(tmp_path / "run", listener=heard)
    assert same(weights(whole), weights(tmp_path / "run"))
    stored = [done for task, done in heard.advanced if task.endswith("storing the teacher")]
    assert stored[0] > 120
    assert stored[-1] == 240


def test_asked_to_leave_while_storing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tutelage.data.store._SHARD_BYTES", 2000)

    class Leave(Record):
        def advance(self, task: str, done: int, terms: Mapping[str, float]) -> None:
            super().advance(task, done, terms)
            if "storing" in task and len(self.advanced) and done >= 96:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match=f"tutelage resume {tmp_path / 'run'}"):
        run(recipe(EXACT), tmp_path / "run", Leave())
    heard = Record()
    api.resume(tmp_path / "run", listener=heard)
    assert min(done for task, done in heard.advanced if "storing" in task) > 96


def test_a_damaged_shard_is_made_again(tmp_path: Path) -> None:
    first = run(recipe(EXACT), tmp_path / "first")
    shard = folder_of(tmp_path) / "view-0001" / "000000.npy"
    good = shard.read_bytes()
    shard.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    heard = Record()
    second = run(recipe(EXACT), tmp_path / "second", heard)
    assert same(weights(first), weights(second))
    assert shard.read_bytes() == good
    assert [done for task, done in heard.advanced if "storing" in task] == [240]


# ------------------------------------------------------------------ what is not what was stored


OTHER: list[tuple[dict[str, Any], str]] = [
    ({"teacher": {"weights": {"train": {"epochs": 1, "batch_size": 64}}}}, "of another teacher"),
    ({"teacher": {"activation": "tanh"}}, "of another teacher"),
    ({"data": {"split_seed": 1}}, "of another data set"),
    ({"data": {"augment": [{"name": "shift", "pixels": 2}]}}, "of another augmentation"),
    ({"data": {"augment": []}}, "of another augmentation"),
    ({"data": {"limit": 100}}, "of other samples"),
    ({"train": {"precision": "bf16"}}, 'precision is "no" there and "bf16" here'),
    ({"seed": 4}, "seed is"),
]


def test_a_store_of_something_else_is_refused(tmp_path: Path) -> None:
    def content(**changes: Any) -> dict[str, Any]:
        taught = {"weights": {"train": {"epochs": 1}}, **changes.pop("teacher", {})}
        train = {"epochs": 1, **changes.pop("train", {})}
        return recipe({**EXACT, "path": str(tmp_path / "logits")}, teacher=taught, train=train, **changes)

    run(content(), tmp_path / "first")
    before = {path: path.read_bytes() for path in (tmp_path / "logits").rglob("*.*")}
    for changes, said in OTHER:
        with pytest.raises(InputError, match=r"teacher\.store: the logits stored in .*logits are not those") as caught:
            run(content(**changes), tmp_path / "second")
        assert said in str(caught.value)
        assert not (tmp_path / "second").exists()
    assert before == {path: path.read_bytes() for path in (tmp_path / "logits").rglob("*.*")}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"student": {"model": "mlp", "store": {}}}, "a model that is trained has no logits to keep"),
        ({"teacher": {"cache": True}}, "`cache: true` too"),
        ({"teacher": {"model": "ema", "hidden": None, "weights": None}}, "'ema' follows the student"),
        ({"teacher": {"store": {"top_k": 3, "scale": "sigmoid"}}}, "fill 'tail' is of the softmax scale"),
        ({"teacher": {"store": {"top_k": 0}}}, "found 0 .*expected an integer >= 1"),
        ({"teacher": {"store": {"topk": 3}}}, "'store' has no key 'topk'"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_anything_is_done(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    content = recipe(EXACT, **changes)
    content["teacher"] = {key: value for key, value in content["teacher"].items() if value is not None}
    with pytest.raises(RecipeError, match=said):
        run(content, tmp_path / "run")


def test_too_many_classes_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"teacher\.store\.top_k 11 is not in 1\.\.10"):
        run(recipe({"top_k": 11}), tmp_path / "run")


def test_a_method_that_looks_inside_the_teacher_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"teacher\.store: only logits are stored, but the method needs embedding"):
        run(recipe(EXACT, method="rkd"), tmp_path / "run")


# ------------------------------------------------------------------ the lookup itself


IDS = torch.tensor([4, 9, 2, 7])


def answers(folder: Path, **arguments: Any) -> Stored:
    layout = arguments.pop("layout", Layout(6, None, "fp32"))
    store = Store(folder, identity={}, ids=IDS, seed=5, views=3, layout=layout)
    for shard in store.missing():
        order = shuffle(4, 5, shard.view)
        store.write(shard, [layout.pack(torch.sin(IDS[order][:, None] + shard.view + torch.arange(6.0)))])
    return Stored(Participant("teacher", nn.Linear(1, 6), trainable=False), store, **{"scale": "softmax", **arguments})


def batch(view: Any, ids: torch.Tensor = IDS) -> Batch:
    views = torch.as_tensor(view).expand(len(ids))
    seeds = torch.stack([mix(5, int(v), ids)[i] for i, v in enumerate(views)])
    return Batch(torch.zeros(len(ids), 1), ids * 0, ids, seeds)


def test_a_seed_says_which_view_is_meant(tmp_path: Path) -> None:
    teacher = answers(tmp_path / "s")
    for views in (1, 0, [2, 0, 1, 1]):
        expected = torch.sin(IDS[:, None] + torch.as_tensor(views).expand(4)[:, None] + torch.arange(6.0))
        assert torch.equal(teacher(batch(views)).logits, expected)


@pytest.mark.parametrize("views", [3, [0, 0, 5, 0]])
def test_a_view_that_nobody_stored(views: Any, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="stored no such view of sample"):
        answers(tmp_path / "s")(batch(views))


def test_old_scores_for_new_views_are_of_the_same_sample(tmp_path: Path) -> None:
    teacher = answers(tmp_path / "s", consistent=False)
    kept = torch.stack([torch.sin(IDS[:, None] + view + torch.arange(6.0)) for view in range(3)])
    seen = set()
    for epoch in range(20, 40):
        found = teacher(batch(epoch)).logits
        match = (found[None] == kept).all(-1)
        assert match.any(0).all()
        seen |= set(match.float().argmax(0).tolist())
    assert seen == {0, 1, 2}


def test_random_fills_are_those_of_the_view(tmp_path: Path) -> None:
    teacher = answers(tmp_path / "s", fill="random", layout=Layout(6, 2, "fp32"))
    one, again, other = (teacher(batch(view)).logits for view in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    smallest = one.topk(2).values.amin(1)
    assert bool((one.sort(1).values[:, :4] < smallest[:, None]).all())
