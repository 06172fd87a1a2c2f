"""ABD: the vaccine's numbers, hosts that stay themselves, self-retrospection, and backdoors before and after."""

from __future__ import annotations

import pytest
import torch
from tests.distill.placing import participants
from torch import nn

from tutelage import api, losses
from tutelage.data.batch import Batch, DataInfo
from tutelage.distill.abd import ABD
from tutelage.distill.parts.data_free import DataFree, plain
from tutelage.engine.method import Room, Step
from tutelage.models.convnet import ConvNet
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError, RecipeError

INFO = DataInfo((1, 8, 8), 3, ("a", "b", "c"), "")
EXAMPLE = Batch(torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64), torch.arange(2), torch.arange(2))
TINY = {"steps": 6, "student_steps": 2, "latent": 8, "generator_width": 8}


def placed(method: ABD, teacher: nn.Module | None = None, batch: int = 6) -> Step:
    torch.manual_seed(0)
    models = {"teacher": teacher or ConvNet(INFO, width=4, depth=2), "student": ConvNet(INFO, width=2, depth=2)}
    room = Room(models, INFO, EXAMPLE, ["student"])
    method.host.sized(batch)
    method.setup(room)
    images = torch.rand(batch, 1, 8, 8)
    return Step(plain(images).with_(labels=torch.full((batch,), -1)), participants(room), 0, 0, 0.0)


def test_the_worked_example_of_the_vaccine(monkeypatch):
    teacher = torch.tensor([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
    shuffled = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 2.0]])
    step = placed(method := ABD(**TINY), batch=3)
    monkeypatch.setattr(type(method.shuffles), "forward", lambda self, network, images: shuffled)
    assert method.vaccinate(step, Outputs(teacher)).total().item() == pytest.approx(-0.0064565, abs=1e-7)
    each = torch.tensor([1.0, 10.0, 3.0])
    assert method.weigh(step, Outputs(teacher), each).item() == pytest.approx(10 - 0.1 * 2)
    monkeypatch.setattr(type(method.shuffles), "forward", lambda self, network, images: -teacher)
    assert method.vaccinate(step, Outputs(teacher)).total().item() == 0
    assert method.weigh(step, Outputs(teacher), each).item() == pytest.approx(14 / 3)


def test_unshuffled_copies_suspect_everything_and_differ_in_nothing():
    step = placed(method := ABD(**TINY, n_shuffle_layers=0))
    teacher = step.forward("teacher")
    apart, alike = losses.suspicion(
        teacher.logits, method.shuffles(step.participants["teacher"].module, step.batch.inputs)
    )
    assert alike.all()
    assert apart.abs().max() < 1e-6


@pytest.mark.parametrize("stop", [False, True])
def test_the_vaccine_s_gradient_reaches_images_through_the_teacher_and_its_copies(stop):
    step = placed(method := ABD(**TINY, stop_shuffle_grad=stop))
    images = torch.rand(16, 1, 8, 8, requires_grad=True)
    seen = step.on(plain(images))
    teacher = seen.forward("teacher")
    through = method.vaccinate(seen, Outputs(teacher.logits.detach())).total()
    assert through.requires_grad is not stop
    (gradient,) = torch.autograd.grad(method.vaccinate(seen, teacher).total(), images)
    assert gradient.abs().max() > 0


def test_a_shuffle_is_looked_for_after_some_batches():
    step = placed(method := ABD(**TINY, select_batches=12, tail_threshold=0.0))
    for number in range(1, 12):
        assert "vaccine" not in method.host.generate(step)
        assert int(method.decided) == 0
        assert len(method.candidates) == max(0, number - 10)
    method.host.generate(step)
    assert int(method.decided) in (1, 2)
    assert not method.tail.isnan()
    assert ("vaccine" in method.host.generate(step)) is (int(method.decided) == 1)


def test_outliers_are_far_below_the_mean_of_the_logarithms():
    values = torch.cat([torch.full((97,), 0.1) * torch.logspace(-0.1, 0.1, 97), torch.full((3,), 1e-6)])
    assert losses.tail_ratio(values).item() == pytest.approx(0.03)
    assert losses.tail_ratio(torch.ones(10)).item() == 0


def test_retrospection_is_the_host_s_loss_and_a_hypergradient():
    step = placed(method := ABD(**TINY, sr=True, sr_portion=0.5))
    student = step.participants["student"].module
    before = {name: value.clone() for name, value in student.named_buffers() if "num" not in name}
    found = method.retrospect(step)
    assert set(found) == {"transfer", "retrospection"}
    assert found["retrospection"].item() >= 0
    found["retrospection"].backward()
    assert all(p.grad is not None for p in student.parameters() if p.ndim > 1)
    assert all(p.grad is None for p in step.participants["teacher"].module.parameters())
    # The host's own forward moves the statistics, once.
    moved = [name for name, value in before.items() if not torch.equal(value, dict(student.named_buffers())[name])]
    assert moved == list(before)


def test_a_perturbation_increases_the_reaction():
    step = placed(method := ABD(**TINY, sr_rounds=10))
    network, images = step.participants["teacher"].module, torch.rand(20, 1, 8, 8)
    delta = method.perturbation(network, images)
    assert delta.shape == (1, 1, 8, 8)
    with torch.no_grad():
        reactions = [
            losses.kl_divergence(network(images + change), network(images)).mean().item()
            for change in (delta, 1e-3 * torch.randn_like(delta))
        ]
    assert reactions[0] > 10 * reactions[1]


TEACHER = {
    "model": "convnet",
    "width": 8,
    "depth": 2,
    "weights": {"train": {"epochs": 12, "batch_size": 50, "optimizer": {"name": "adam", "lr": 5e-3}}},
}


@pytest.fixture
def poisoned(recipe):
    def make(method, epochs=2, limit=300, **changes):
        content = recipe(
            method,
            teacher=TEACHER,
            student={"model": "convnet", "width": 6, "depth": 2},
            data={"name": "poisoned", "of": "digits", "size": 2, "limit": limit},
            measure=["accuracy", "backdoor"],
            **changes,
        )
        content["train"] |= {"epochs": epochs, "batch_size": 24}
        return content

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    "host",
    [
        {"name": "retain-acquire", **TINY, "push_every": 1},
        {
            "name": "cae-dfkd",
            "steps": 6,
            "embedding_width": 16,
            "hidden": 16,
            "generator_width": 8,
            "warmup": 0,
            "g_steps": 3,
            "synthesis_batch": 32,
            "pool_size": 256,
        },
    ],
    ids=lambda host: host["name"],
)
def test_without_a_defence_it_is_the_host(poisoned, go, weights, host):
    plainly = weights(go(poisoned(host)))
    hosted = weights(go(poisoned({"name": "abd", "host": host, "sv_coef": 0.0})))
    assert all(torch.equal(plainly[name], hosted[name]) for name in plainly)


@pytest.mark.slow
def test_a_backdoor_is_measured_in_the_teacher_and_in_the_student(poisoned, go):
    method = {"name": "abd", "inputs": "patches", "steps": 20, "sr": True, "sr_epochs": 1}
    report = go(poisoned(method, epochs=4, limit=None)).report
    rows = {row["name"]: row["measures"] for row in report["rows"]}
    assert rows["teacher"]["quality"]["accuracy"]["value"] > 0.85
    assert rows["teacher"]["leakage"]["backdoor_success"]["value"] > 0.8
    assert 0 <= rows["student"]["leakage"]["backdoor_success"]["value"] <= 1
    assert report["leaked"]["backdoor_success"] == rows["student"]["leakage"]["backdoor_success"]


@pytest.mark.slow
def test_an_interrupted_retrospection_ends_alike(poisoned, tmp_path):
    from tests.engine.conftest import InterruptAt, same, stage_end

    from tutelage.engine.stopping import Interrupted

    content = poisoned({"name": "abd", **TINY, "sr": True, "sr_epochs": 1, "select_batches": 11})
    content["train"] |= {"epochs": 4}
    whole = api.run(content, run_dir=tmp_path / "whole").folder
    with pytest.raises(Interrupted):
        api.run(content, run_dir=tmp_path / "pieces", listener=InterruptAt("retrospection", 3))
    pieces = api.resume(tmp_path / "pieces").folder
    one, two = (stage_end(folder, "retrospection") for folder in (whole, pieces))
    assert same(one["models"]["student"], two["models"]["student"])
    assert same(one["method"], two["method"])


def test_a_backdoor_that_nobody_made_is_not_measured(recipe, go):
    report = go(recipe("kd", measure=["accuracy", "backdoor"])).report
    assert report["leaked"]["backdoor_success"] is None
    assert any("No sample of this data bears a trigger" in warning for warning in report["warnings"])


def test_maps_may_be_matched_beside_the_game():
    step = placed(method := ABD(**TINY, at_pairs=[("blocks.0", "blocks.0")]))
    assert set(method.host.transfer(step)) == {"transfer", "attention"}
    assert isinstance(method.host, DataFree)


def test_bad_recipes_are_refused(recipe, go):
    with pytest.raises(InputError, match=r"method\.host: KD learns from data"):
        go(recipe({"name": "abd", "host": "kd"}))
    with pytest.raises(InputError, match="the first 10 batches"):
        ABD(select_batches=5)
    with pytest.raises(InputError, match="patches have no generator"):
        ABD(select_batches=50, inputs="patches")
    with pytest.raises(InputError, match="no convolution"):
        go(recipe({"name": "abd", **TINY}))
    with pytest.raises(RecipeError, match="sr_probe"):
        go(recipe({"name": "abd", "sr_probe": "nobody"}))


def test_the_student_s_turn_leaves_the_generator_without_a_gradient():
    step = placed(method := ABD(**TINY))
    generator, transfer = method.turns()
    for turn, kept in ((generator, True), (transfer, False)):
        for parameter in method.host.generator.parameters():
            parameter.grad = torch.zeros_like(parameter)
        method.after_backward(step, turn)
        assert all((p.grad is not None) is kept for p in method.host.generator.parameters())
