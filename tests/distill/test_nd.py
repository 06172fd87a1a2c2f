"""ND: the card's numbers at method level, the class means, the projector, the warm-up, and an outcome on digits."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tutelage.data.batch import Batch, DataInfo
from tutelage.distill.nd import ND
from tutelage.distill.parts.class_means import ClassMeans
from tutelage.engine.listening import Silence
from tutelage.engine.method import Room, Step
from tutelage.engine.run import Run
from tutelage.engine.stopping import Interruption
from tutelage.losses import decoupled, interclass_correlation, intraclass_correlation, kl_divergence
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError, RecipeError
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.runfolder import RunFolder

STUDENT = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 12.0]])
TEACHER = torch.tensor([[6.0, 8.0], [0.0, 2.0], [5.0, 0.0]])
MEANS = torch.tensor([[3.0, 0.0], [0.0, 5.0]])
BATCH = Batch(torch.zeros(3, 1), torch.tensor([0, 1, 1]), torch.arange(3), torch.arange(3))
LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.5, -1.0]])
INFO = DataInfo((3,), 2, ("a", "b"), "")


def outputs(embedding, logits=LOGITS):
    return Outputs(logits, {"embedding": embedding})


def ready(centres=MEANS, **changes):
    """A method as after set-up, between embeddings of one width."""
    method = ND(**{"warm_up_epochs": 0, **changes})
    method.projector = nn.Identity()
    method.class_means = ClassMeans(*centres.shape, torch.device("cpu"))
    method.class_means.sums.copy_(centres)
    method.class_means.counts.fill_(1.0)
    return method


def at(epoch):
    return Step(BATCH, {}, 0, epoch, 0.0)


def test_the_worked_example_beside_classic_distillation():
    losses = ready(nd_weight=2.0, partner_weight=3.0, temperature=4.0).loss(
        outputs(STUDENT), outputs(TEACHER, 2 * LOGITS), BATCH
    )
    assert losses["nd"].tolist() == pytest.approx([0.7, 1.0, 0.0], abs=1e-6)
    assert losses.means()["nd"].item() == pytest.approx(0.5666667, abs=1e-6)
    task = torch.nn.functional.cross_entropy(LOGITS, BATCH.labels)
    kd = kl_divergence(LOGITS, 2 * LOGITS, temperature=4.0).mean()
    assert losses.total().item() == pytest.approx((task + 2 * 0.5666667 + 3 * kd).item(), abs=1e-5)
    # Lengths 5, 1 and 12 beside 10, 2 and 5.
    assert losses.means()["norm_ratio"].item() == pytest.approx(18 / 17)


@pytest.mark.parametrize(("variant", "mean"), [("direction", 0.4666667), ("norm", 1 / 3)])
def test_one_alone(variant, mean):
    losses = ready(variant=variant, partner="none").loss(outputs(STUDENT), outputs(TEACHER), BATCH)
    assert set(losses) == {"task", "nd"}
    assert losses.means()["nd"].item() == pytest.approx(mean, abs=1e-6)


def test_partners():
    theirs = 2 * LOGITS.flip(0)

    def transfer(**changes):
        return ready(**changes).loss(outputs(STUDENT), outputs(TEACHER, theirs), BATCH).means()["transfer"]

    dkd = decoupled(LOGITS, theirs, BATCH.labels, alpha=2.5, beta=4.0, temperature=2.0).mean()
    torch.testing.assert_close(transfer(partner="dkd", target_weight=2.5, others_weight=4.0, temperature=2.0), dkd)
    between, within = (f(LOGITS, theirs, temperature=4.0) for f in (interclass_correlation, intraclass_correlation))
    dist = 2 * between.mean() + 3 * within
    torch.testing.assert_close(transfer(partner="dist", inter_weight=2.0, intra_weight=3.0), dist)


def test_the_partner_warms_up_and_the_norm_and_direction_do_not():
    method = ready(warm_up_epochs=20, partner_weight=4.0)
    found = []
    for epoch in (0, 1, 10, 20, 35):
        method.before_step(at(epoch))
        losses = method.loss(outputs(STUDENT), outputs(TEACHER), BATCH)
        found.append((losses.weight("transfer"), losses.weight("nd")))
    assert found == [(0.0, 1.0), (0.2, 1.0), (2.0, 1.0), (4.0, 1.0), (4.0, 1.0)]


def test_gradients_reach_the_student_alone():
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    method = ready(partner="none", ce_weight=0.0)
    method.loss(outputs(student), outputs(teacher), BATCH).total().backward()
    expected = torch.tensor([[-1 / 30, 0.0], [0.0, -1 / 6], [0.0, 0.0]])
    torch.testing.assert_close(student.grad, expected)
    assert teacher.grad is None
    assert not list(method.class_means.parameters())


# ---------------------------------------------------------------------- class means and projector


def nets(teacher=4, student=4):
    torch.manual_seed(0)
    return {
        "teacher": nn.Sequential(nn.Linear(3, teacher), nn.ReLU(), nn.Linear(teacher, 2)),
        "student": nn.Sequential(nn.Linear(3, student), nn.ReLU(), nn.Linear(student, 2)),
    }


def room(modules):
    example = Batch(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64), torch.arange(4), torch.arange(4))
    return Room(modules, INFO, example, ["student"])


def test_the_means_are_those_of_raw_embeddings_of_the_unaugmented_training_set(recipe, tmp_path):
    loaded = load_recipe(
        recipe("nd", data={"name": "digits", "limit": 60, "augment": [{"name": "shift", "pixels": 3}]})
    )
    run = Run(loaded, RunFolder.create(loaded, tmp_path), Silence(), Interruption())
    teacher, method = run.source("teacher"), run.method(loaded.method)
    method.survey(run)
    modules = {"teacher": teacher, "student": run.fresh("student")}
    method.setup(Room(modules, run.splits.info, run.example(), ["student"]))
    batch = run.splits.train.fetch(range(60))
    with torch.no_grad():
        embeddings = teacher.cpu().blocks(batch.inputs.flatten(1))
    for k in range(10):
        torch.testing.assert_close(method.class_means()[k].cpu(), embeddings[batch.labels == k].mean(0))
    assert {name for name, _ in method.class_means.named_buffers()} == {"sums", "counts"}
    assert all(p.requires_grad for p in teacher.parameters())


def test_means_that_nobody_measured_are_refused():
    method = ready(torch.zeros(2, 2))
    method.class_means.counts.zero_()
    with pytest.raises(InputError, match="means: running"):
        method.before_step(at(0))


def test_running_means_are_of_the_views_seen_and_the_same_however_a_step_is_cut():
    found = []
    for parts in ([slice(0, 3)], [slice(0, 1), slice(1, 3)]):
        method = ready(torch.zeros(2, 2), means="running")
        method.class_means.counts.zero_()
        for part in parts:
            batch = Batch(*(value[part] for value in (BATCH.inputs, BATCH.labels, BATCH.ids, BATCH.seeds)))
            losses = method.loss(outputs(STUDENT[part], LOGITS[part]), outputs(TEACHER[part], LOGITS[part]), batch)
            assert losses["nd"].tolist() == [1.0] * len(batch)
        method.after_step(at(0))
        found.append(method.class_means())
    assert torch.equal(found[0], found[1])
    assert found[0].tolist() == [[6.0, 8.0], [2.5, 1.0]]


def test_means_from_a_file(tmp_path):
    save_file({"class_means": torch.ones(2, 4)}, tmp_path / "means.safetensors")
    method = ND(means="file", means_file=tmp_path / "means.safetensors")
    method.setup(room(nets()))
    assert torch.equal(method.class_means(), torch.ones(2, 4))
    with pytest.raises(InputError, match=r"holds class_means \[2, 4\]; expected class_means \[2, 6\]"):
        ND(means="file", means_file=tmp_path / "means.safetensors").setup(room(nets(teacher=6)))


def test_the_projector_lies_between_different_widths_and_only_there():
    method = ND()
    method.setup(room(nets()))
    assert isinstance(method.projector, nn.Identity)
    method = ND(dropout=0.25, projector_std=0.01)
    method.setup(room(nets(teacher=400)))
    normalisation, dropout, linear = method.projector
    assert (normalisation.num_features, dropout.p, linear.out_features) == (4, 0.25, 400)
    assert (linear.bias == 0).all()
    assert linear.weight.std().item() == pytest.approx(0.01, rel=0.2)
    one, two = torch.ones(1, 4), torch.randn(2, 4)
    assert method.projector(two).shape == (2, 400)
    # A last batch of one sample has no statistics of its own, and moves none.
    before = normalisation.running_mean.clone()
    assert torch.isfinite(method.projector(one)).all()
    assert torch.equal(before, normalisation.running_mean)


def test_different_widths_without_a_projector_are_refused():
    with pytest.raises(InputError, match="width 4 and the teacher's 6"):
        ND(projector="none").setup(room(nets(teacher=6)))


def test_maps_and_tokens_are_averaged_over_positions():
    maps = torch.stack([STUDENT, 3 * STUDENT], -1).unsqueeze(-1)
    method = ready(student_tap="features", partner="none")
    losses = method.loss(Outputs(LOGITS, {"features": maps}), outputs(2 * TEACHER), BATCH)
    torch.testing.assert_close(losses["nd"], torch.tensor([0.7, 1.0, 0.0]))


# ---------------------------------------------------------------------- runs


def test_embeddings_grow_and_turn_to_the_teachers_class_means(recipe, go):
    train = {"epochs": 15, "batch_size": 50, "optimizer": {"name": "adam", "lr": 5e-3}, "schedule": "constant"}
    found = {}
    for weight in (0.0, 2.0):
        finished = go(
            recipe(
                {"name": "nd", "nd_weight": weight, "warm_up_epochs": 5},
                teacher={"model": "mlp", "hidden": [32, 24], "weights": {"train": train}},
                student={"model": "mlp", "hidden": [16, 24]},
                data={"name": "digits", "limit": 300},
                train=train,
            )
        )
        found[weight] = finished.report["findings"]
    assert found[2.0]["norm_ratio"] > found[0.0]["norm_ratio"] + 0.2
    assert found[2.0]["cosine_to_class_mean"] > found[0.0]["cosine_to_class_mean"] + 0.1


def test_it_stands_beside_another_method(recipe, go):
    mapping = recipe("kd", epochs=1, also=[{"name": "nd", "partner": "none", "nd_weight": 2.0}])
    mapping["student"] = {"model": "mlp", "hidden": [12]}
    assert go(mapping).report["status"] == "done"


def test_means_need_their_file(recipe, go):
    with pytest.raises(RecipeError, match="'means: file' names no file"):
        go(recipe({"name": "nd", "means": "file"}))
    with pytest.raises(RecipeError, match="'means_file' is not read"):
        go(recipe({"name": "nd", "means_file": "means.safetensors"}))


def test_an_unknown_partner_is_refused(recipe, go):
    with pytest.raises(RecipeError, match=r"method\.partner: found 'kdd'.*'kd'"):
        go(recipe({"name": "nd", "partner": "kdd"}))
