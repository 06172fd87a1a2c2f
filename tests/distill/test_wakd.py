"""WAKD: the loss without labels, the average that is handed on, and a domain that nobody has seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from tutelage.data.batch import Batch
from tutelage.distill.wakd import WAKD
from tutelage.engine.trajectories import DenseAverage
from tutelage.models.averaging import average_states
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError, RecipeError

STUDENT, TEACHER = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[1.0, 1.0, -2.0]])
BATCH = Batch(torch.zeros(1, 1), torch.tensor([0]), torch.tensor([0]), torch.tensor([0]))


@pytest.fixture(autouse=True)
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    # Pictures of what happened take longer than what happened.
    monkeypatch.setattr("tutelage.report.html.save_html", lambda folder: folder)


def test_the_loss_is_softened_and_scaled_and_needs_no_label() -> None:
    losses = WAKD().loss(Outputs(STUDENT), Outputs(TEACHER), BATCH.with_(labels=torch.tensor([-1])))
    p, q = (TEACHER / 5).softmax(-1), (STUDENT / 5).softmax(-1)
    assert losses.total().item() == pytest.approx(25 * float((p * (p / q).log()).sum()), rel=1e-5)
    assert set(losses) == {"transfer"}
    both = WAKD(label_weight=2.0).loss(Outputs(STUDENT), Outputs(TEACHER), BATCH)
    assert both.total().item() == pytest.approx(losses.total().item() + 2 * 0.169846, abs=1e-5)
    assert WAKD().loss(Outputs(TEACHER), Outputs(TEACHER), BATCH).total().item() == pytest.approx(0, abs=1e-7)


def test_of_a_linear_student_the_average_predicts_the_average_and_of_another_it_does_not() -> None:
    inputs = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))

    def gap(make) -> float:
        torch.manual_seed(0)
        models = [make() for _ in range(5)]
        outputs = torch.stack([model(inputs) for model in models]).mean(0)
        models[0].load_state_dict(average_states([model.state_dict() for model in models]))
        return (models[0](inputs) - outputs).abs().max().item()

    assert gap(lambda: nn.Linear(6, 3)) < 1e-6
    assert gap(lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))) > 1e-2


def test_statistics_stay_and_scales_are_trained(recipe, go, weights) -> None:
    net, data = {"model": "convnet", "width": 2}, {"name": "digits", "limit": 32}
    teacher = {**net, "weights": {"train": {"epochs": 1}}}
    trained = {
        frozen: weights(
            go(recipe({"name": "wakd", "freeze_bn": frozen}, teacher=teacher, student=net, data=data, epochs=1))
        )
        for frozen in (True, False)
    }
    means = [name for name in trained[True] if name.endswith("running_mean")]
    assert means
    assert all(not trained[True][name].any() for name in means)
    assert all(trained[False][name].any() for name in means)
    scales = [name.replace("running_mean", "weight") for name in means]
    assert any(bool((trained[True][name] != 1).any()) for name in scales)


def test_the_averaging_is_the_callbacks(recipe, go, weights) -> None:
    """Of the method, or beside another method that minimises the same: the same weights."""
    own = {"name": "wakd", "temperature": 4.0, "averaging": {"name": "wakd", "start": 3}}
    beside = {"name": "kd", "alpha": 0.0}
    first = weights(go(recipe(own, epochs=1)))
    second = weights(go(recipe(beside, epochs=1, callbacks=[{"name": "wakd", "start": 3}])))
    third = weights(go(recipe({**own, "averaging": None}, epochs=1)))
    fourth = weights(go(recipe({**own, "averaging": {"name": "wakd", "start": 7}}, epochs=1)))
    # Their losses are written differently, so that sums of floats may differ in the last place.
    assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)
    assert not all(torch.allclose(first[name], third[name], atol=1e-3) for name in first)
    assert all(torch.equal(third[name], fourth[name]) for name in third)


def test_samples_without_labels_are_learned_from(recipe, go, weights) -> None:
    data = {"name": "digits", "limit": 200, "labelled": 20}
    with_pool = go(recipe("wakd", data=data, epochs=2))
    record = json.loads((Path(with_pool.folder) / "stages/transfer/record.json").read_text())
    assert any("unlabelled" in name for name in record["history"][0]["losses"])
    alone = go(recipe("wakd", data={"name": "digits", "limit": 20}, epochs=2))
    assert not all(torch.equal(a, b) for a, b in zip(weights(with_pool).values(), weights(alone).values(), strict=True))


@pytest.mark.slow
def test_an_unseen_domain(recipe, go) -> None:
    """The average is as good as the last weights within a point (no gain is to be seen on so small a network)."""
    data = {"name": "domains", "of": "digits", "angles": [0, 20, 40, 60], "hold_out": 3, "validation_fraction": 0.2}
    teacher = {"model": "mlp", "hidden": [64], "weights": {"train": {"epochs": 10}}}
    found = {}
    for name, averaging in (("wakd", {"name": "wakd", "start": 0.1}), ("last", None)):
        method = {"name": "wakd", "averaging": averaging}
        content = recipe(method, teacher=teacher, data=data, epochs=15, batch_size=64)
        content["train"]["optimizer"] = {"name": "adam", "lr": 1e-2}
        report = go(content).report
        found[name] = next(r for r in report["rows"] if r["role"] == "recipient")["measures"]["quality"]["accuracy"]
    assert found["wakd"]["value"] > 0.4
    assert found["wakd"]["value"] == pytest.approx(found["last"]["value"], abs=0.03)


def test_mistakes_are_named(recipe, go) -> None:
    with pytest.raises(RecipeError, match=r"takes no further terms\. Take `method: kd` with `callbacks"):
        go(recipe("wakd", also=[{"name": "rkd"}]))
    with pytest.raises(RecipeError, match=r"no callback named 'swda'\. Did you mean 'swa' or 'swad'"):
        go(recipe({"name": "wakd", "averaging": "swda"}))
    with pytest.raises(InputError, match="'wakd' starts at step 5000, but the stage has 14 steps"):
        go(recipe({"name": "wakd", "averaging": {"name": "wakd", "start": 5000}}))
    with pytest.raises(RecipeError, match="the teacher 'mlp' has no weights"):
        go(recipe("wakd", teacher={"model": "mlp"}))
    assert isinstance(WAKD(averaging=DenseAverage()).averaging, DenseAverage)
