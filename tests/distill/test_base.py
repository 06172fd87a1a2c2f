"""What every distillation shares: stages, stacking, ramps, a frozen teacher, and mistakes that are found early."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from tutelage.data.batch import Batch
from tutelage.distill.base import Stacked
from tutelage.distill.kd import KD
from tutelage.distill.pesf_kd import PESFKD
from tutelage.distill.supervised import Supervised
from tutelage.distill.ttm import TTM
from tutelage.distill.wttm import WTTM
from tutelage.engine.listening import Silence
from tutelage.engine.ramps import Linear, Ramps
from tutelage.engine.run import Run
from tutelage.engine.stopping import Interruption
from tutelage.models.outputs import Outputs
from tutelage.models.weights import load_model
from tutelage.recipe.errors import InputError, RecipeError
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.runfolder import RunFolder


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def outputs(seed: int, batch: int = 6, classes: int = 5) -> Outputs:
    return Outputs(torch.randn(batch, classes, generator=torch.Generator().manual_seed(seed)))


def batch_of(count: int = 6, classes: int = 5) -> Batch:
    ids = torch.arange(count)
    return Batch(torch.zeros(count, 1), ids % classes, ids, ids)


# ---------------------------------------------------------------------- stages


@pytest.mark.parametrize("method", [{"name": "kd"}, {"name": "wttm"}], ids=lambda m: m["name"])
def test_two_stages_are_one_stage_of_their_sum(method, recipe, go, weights):
    whole = go(recipe(method, epochs=3))
    parts = go(
        recipe(method, stages=[{"name": "first", "train": {"epochs": 1}}, {"name": "second", "train": {"epochs": 2}}])
    )
    assert same(weights(whole), weights(parts))
    steps = [
        json.loads((parts.folder / "stages" / name / "record.json").read_text())["steps"]
        for name in ("first", "second")
    ]
    assert steps == [7, 14]


def test_a_stage_goes_on_with_what_it_does_not_restate(recipe, go, weights):
    slower = {"name": "second", "train": {"epochs": 1, "optimizer": {"name": "adam", "lr": 1e-4}}}
    kept = go(recipe("kd", stages=[{"name": "first", "train": {"epochs": 1}}, slower]))
    alike = go(recipe("kd", epochs=2))
    assert not same(weights(kept), weights(alike))


def test_a_stage_may_have_another_method(recipe, go, weights):
    stages = [{"name": "labels", "method": "supervised"}, {"name": "transfer"}]
    mixed = go(recipe("kd", epochs=1, stages=stages))
    pure = go(recipe("kd", epochs=2))
    assert not same(weights(mixed), weights(pure))
    terms = json.loads((mixed.folder / "stages" / "labels" / "record.json").read_text())["history"][0]["losses"]
    assert not any("transfer" in term for term in terms)


# ---------------------------------------------------------------------- without a teacher's say


def test_a_transfer_of_no_weight_is_plain_training(recipe, go, weights):
    deaf = weights(go(recipe({"name": "kd", "alpha": 1.0})))
    plain = weights(go(recipe("supervised", teacher=None)))
    assert same(deaf, plain)
    assert not same(deaf, weights(go(recipe({"name": "kd", "alpha": 0.9}))))


def test_cutting_batches_changes_nothing(recipe, go, weights):
    whole, cut = weights(go(recipe("wttm"))), weights(go(recipe("wttm", accumulate=5)))
    assert all(torch.allclose(whole[key], cut[key], rtol=1e-3, atol=1e-5) for key in whole)


def test_a_teacher_found_again_teaches_the_same(recipe, go, weights):
    mapping = recipe("kd", seed=77)
    first, second = go(mapping), go(mapping)
    records = [json.loads((f.folder / "stages" / "teacher" / "record.json").read_text()) for f in (first, second)]
    assert [record.get("reused", False) for record in records] == [False, True]
    assert same(weights(first), weights(second))


@pytest.mark.parametrize("method", [{"name": "kd"}, {"name": "born-again", "generations": 2}], ids=lambda m: m["name"])
def test_a_teacher_asked_once_teaches_as_one_asked_every_time(method, recipe, go, weights):
    mapping = recipe(method)
    asked_once = weights(go({**mapping, "teacher": {**mapping["teacher"], "cache": True}}))
    live = weights(go(mapping))
    assert all(torch.allclose(live[key], asked_once[key], rtol=1e-3, atol=1e-5) for key in live)


def test_the_teacher_stays_what_it_was(recipe, go, tmp_path):
    net = {"model": "convnet", "width": 2, "depth": 2}
    taught = go(recipe("supervised", student=net, teacher=None))
    before = {k: v.clone() for k, v in load_model(taught.folder).state_dict().items()}
    loaded = load_recipe(recipe("kd", teacher={**net, "weights": str(taught.folder)}, student=net))
    live = Run(loaded, RunFolder.create(loaded, tmp_path), Silence(), Interruption())
    live.transfer()
    teacher = live.models["teacher"]
    # Batch normalisation included: a teacher in training mode would have moved its statistics.
    assert same({k: v.cpu() for k, v in teacher.state_dict().items()}, before)
    assert all(p.grad is None for p in teacher.parameters())


# ---------------------------------------------------------------------- stacking


def test_stacked_terms_add_up():
    student, teacher, batch = outputs(0), outputs(1), batch_of()
    first, second, third = KD(alpha=0.3), WTTM(beta=3.0, ce_weight=9.0), TTM(beta=0.5)
    stack = Stacked(first, [second, third])
    losses = stack.loss(student, teacher, batch)
    assert list(losses) == ["task", "transfer", "also1.transfer", "also2.transfer"]
    alone = first.loss(student, teacher, batch).total()
    added = sum(m.loss(student, teacher, batch).without("task").total() for m in (second, third))
    assert losses.total().item() == pytest.approx((alone + added).item(), rel=1e-6)


def test_a_method_may_be_stacked_on_itself_and_without_weight_changes_nothing(recipe, go, weights):
    alone = weights(go(recipe("kd")))
    silent = weights(go(recipe("kd", also=[{"name": "wttm", "beta": 0.0}, {"name": "kd", "alpha": 1.0}])))
    loud = weights(go(recipe("kd", also=[{"name": "kd", "alpha": 0.0}])))
    assert same(alone, silent)
    assert not same(alone, loud)


def test_only_transfer_terms_can_be_stacked():
    with pytest.raises(InputError, match="Supervised has no transfer term"):
        Stacked(KD(), [Supervised()])


# ---------------------------------------------------------------------- ramps


def test_a_ramp_moves_a_weight_of_a_stacked_method():
    moving = WTTM(beta=Linear(start=0.0, end=4.0))
    stack = Stacked(KD(), [moving])
    ramps = Ramps(stack)
    seen = []
    for progress in (0.0, 0.25, 0.5, 1.0):
        ramps.set(progress)
        seen.append(stack.loss(outputs(0), outputs(1), batch_of()).weight("also1.transfer"))
    assert seen == [0.0, 1.0, 2.0, 4.0]


def test_a_flat_ramp_is_the_number(recipe, go, weights):
    number = weights(go(recipe({"name": "wttm", "beta": 2.0})))
    flat = weights(go(recipe({"name": "wttm", "beta": {"name": "linear", "start": 2.0, "end": 2.0}})))
    rising = weights(go(recipe({"name": "wttm", "beta": {"name": "linear", "start": 0, "end": 4}})))
    assert same(number, flat)
    assert not same(number, rising)


def test_a_ramp_outside_the_range_is_refused(recipe, go):
    with pytest.raises(RecipeError, match=r"beta.end"):
        go(recipe({"name": "wttm", "beta": {"name": "linear", "start": 0, "end": -4}}))


# ---------------------------------------------------------------------- mistakes


class Narrow(nn.Module):
    """Seven classes, whatever the data has."""

    def __init__(self, data) -> None:
        super().__init__()
        self.head = nn.Linear(64, 7)

    def forward(self, inputs):
        return self.head(inputs.flatten(1))


@pytest.mark.parametrize("method", ["kd", "ttm", "wttm"])
def test_a_teacher_that_knows_nothing_is_refused(method, recipe, go, tmp_path):
    with pytest.raises(RecipeError, match=r"teacher: the teacher 'mlp' has no weights.*weights: \{train"):
        go(recipe(method, teacher={"model": "mlp"}))
    assert not (tmp_path / "runs").exists()


def test_weights_that_are_not_there_are_named(recipe, go, tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        go(recipe("kd", teacher={"model": "mlp", "weights": str(tmp_path / "nowhere")}))


@pytest.mark.parametrize("method", ["kd", "ttm", "wttm", "born-again"])
def test_other_classes_are_refused_before_training(method, recipe, go, tmp_path, monkeypatch):
    module = Path(__file__)
    monkeypatch.syspath_prepend(str(module.parent))
    with pytest.raises(InputError, match="the teacher names 7 classes and the student 10"):
        go(recipe(method, teacher={"model": f"{module.stem}:Narrow"}))
    assert not list((tmp_path / "runs").glob("*"))


class TwoTurns(KD):
    """Moves twice in a step."""

    def turns(self):
        return (*super().turns(), *super().turns())


def test_a_stack_moves_as_its_first_and_reports_what_all_measured():
    first, second = PESFKD(adapter_rate=0.5), KD()
    (turn,) = Stacked(first, [second]).turns()
    assert turn.scales == {"method": 0.5}
    with pytest.raises(InputError, match="TwoTurns moves in 2 turns"):
        Stacked(TwoTurns(), [second]).turns()
    first.findings = lambda run: {"gap": 1.0}
    second.findings = lambda run: {"gap": 2.0}
    assert Stacked(first, [second]).findings(None) == {"gap": 1.0, "also1.gap": 2.0}


def test_a_member_that_was_never_taught_is_named(recipe):
    from tutelage.api.running import look_over
    from tutelage.recipe.errors import RecipeError
    from tutelage.recipe.loading import load_recipe

    taught = {"model": "mlp", "weights": {"train": {"epochs": 1}}}
    teacher = {"model": "ensemble", "members": [taught, {"model": "convnet"}]}
    with pytest.raises(RecipeError, match=r"teacher\.members\.1: the teacher 'convnet' has no weights"):
        look_over(load_recipe(recipe("kd", teacher=teacher)))
    look_over(load_recipe(recipe("kd", teacher={"model": "ensemble", "members": [taught, taught]})))


def _distillers():
    from tutelage.recipe.registry import registry

    return [e.name for e in registry().entries("method") if e.package == "tutelage" and e.route == "distill"]


@pytest.mark.parametrize("name", _distillers())
@pytest.mark.parametrize("place", ["also", "stages", "methods"])
def test_any_method_beside_another_is_taken_or_refused_with_a_reason(recipe, name, place):
    """A check that looks for its own keys in another method's arguments would end in a traceback."""
    from tutelage.api.running import look_over
    from tutelage.recipe.errors import InputError, RecipeError
    from tutelage.recipe.loading import load_recipe

    beside = {
        "also": {"also": [name]},
        "stages": {"stages": [{"name": "one"}, {"name": "two", "method": name}]},
        "methods": {"compare": {"methods": [name, "kd" if name != "kd" else "rkd"]}},
    }
    said = ""
    try:
        look_over(load_recipe(recipe("kd", **beside[place])))
    except (InputError, RecipeError) as error:
        said = str(error)
    assert not said or len(said) > 30
