"""TopKD: the card's numbers at method level, its parts, and an outcome on digits."""

from __future__ import annotations

import json

import pytest
import torch

from tutelage.data.batch import Batch
from tutelage.distill.base import Stacked
from tutelage.distill.kd import KD
from tutelage.distill.topkd import TopKD
from tutelage.engine import checkpoint
from tutelage.losses import kl_divergence, top_scale
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError

TEACHER = torch.tensor([[5.0, 3.0, 1.0, -1.0, -2.0, -4.0]])
STUDENT = torch.tensor([[2.0, 2.0, 0.0, 0.0, -1.0, -1.0]])
BATCH = Batch(torch.zeros(1, 1), torch.tensor([0]), torch.arange(1), torch.arange(1))


def test_the_worked_example():
    losses = TopKD(k=2, tsm=False).loss(Outputs(STUDENT), Outputs(TEACHER), BATCH)
    assert losses["direction"].mean().item() == pytest.approx(-0.918826, abs=1e-6)
    assert losses["contrast"].item() == pytest.approx(0.0, abs=1e-6)


def test_the_scaled_teacher_itself_is_the_best_student():
    target = top_scale(TEACHER, BATCH.labels, k=2, gain=0.5, bias=0.1, boost=2.0)
    losses = TopKD(k=2, pos_weight=1.5, neg_weight=0.5).loss(Outputs(3.0 * target), Outputs(TEACHER), BATCH)
    assert losses["direction"].mean().item() == pytest.approx(1 - (1.5 + 0.5 + 1.0), abs=1e-5)


def test_weights_reach_their_terms():
    method = TopKD(k=2, ce_weight=0.5, direction_weight=2.0, contrastive_weight=3.0)
    losses = method.loss(Outputs(STUDENT), Outputs(TEACHER), BATCH)
    assert [losses.weight(name) for name in ("task", "direction", "contrast")] == [0.5, 2.0, 3.0]


def test_the_teacher_gets_no_gradient():
    teacher, student = TEACHER.clone().requires_grad_(), STUDENT.clone().requires_grad_()
    TopKD(k=2).loss(Outputs(student), Outputs(teacher), BATCH).total().backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


def test_a_k_that_the_classes_cannot_hold_twice(recipe, go):
    with pytest.raises(InputError, match=r"method.k: .* at most 5"):
        go(recipe({"name": "topkd", "k": 6}))


def test_a_learnt_temperature_moves_from_where_it_was_put(recipe, go):
    finished = go(recipe({"name": "topkd", "k": 3, "learn_tau": True, "tau": 0.5}, epochs=1))
    _, state = checkpoint.load(next((finished.folder / "stages" / "transfer" / "end").glob("step-*")))
    learnt = state["method"]["log_tau"].exp().item()
    assert 0 < abs(learnt - 0.5) < 0.2
    record = json.loads((finished.folder / "stages" / "transfer" / "record.json").read_text())
    assert 0.3 < record["history"][0]["losses"]["transfer/tau"] < 0.7


def test_a_fixed_temperature_is_no_parameter(recipe, go):
    finished = go(recipe({"name": "topkd", "k": 3}, epochs=1))
    _, state = checkpoint.load(next((finished.folder / "stages" / "transfer" / "end").glob("step-*")))
    assert state["method"] == {}


def test_other_losses_see_the_amplified_teacher_where_they_are_to():
    scaled = top_scale(TEACHER, BATCH.labels, k=2)
    for amplify, seen in ((False, TEACHER), (True, scaled)):
        stack = Stacked(TopKD(k=2, amplify_also=amplify), [KD(alpha=0.0)])
        losses = stack.loss(Outputs(STUDENT), Outputs(TEACHER), BATCH)
        torch.testing.assert_close(losses["also1.transfer"], kl_divergence(STUDENT, seen, temperature=4.0))


def test_unlabelled_samples_have_no_label_to_boost():
    method, hidden = TopKD(k=2), BATCH.with_(labels=torch.tensor([-1]))
    assert set(method.transfer(Outputs(STUDENT), Outputs(TEACHER), hidden)) == {"direction", "contrast"}
    torch.testing.assert_close(method.amplified(TEACHER, hidden.labels), top_scale(TEACHER, None, k=2))


def test_images_without_labels_are_learned_from(recipe, go):
    """The card's experiment, smaller: a teacher who knows all, a student with few labels and many images."""
    net = {"model": "mlp", "hidden": [64]}
    teacher = go(recipe("supervised", teacher=None, student=net, data={"name": "digits"}, epochs=15))
    report = go(
        recipe(
            {"name": "topkd", "k": 3},
            teacher={**net, "weights": str(teacher.folder)},
            data={"name": "digits", "labelled": 30},
            batch_size=20,
            epochs=150,
            baseline=True,
        )
    ).report
    assert report["arrived"]["gain"]["value"] >= 0.04


def test_held_out_directions_come_closer_to_the_teachers(recipe, go):
    """Cosines of the largest, smallest and other logits, against a student that only saw the labels."""
    found = {}
    for weight in (0.0, 1.0):
        method = {"name": "topkd", "k": 3, "direction_weight": weight, "contrastive_weight": weight}
        found[weight] = go(recipe(method, epochs=15, data={"name": "digits", "limit": 300})).report["findings"]
    for part in ("largest", "smallest", "rest"):
        assert found[1.0][f"cosine_of_{part}"] > found[0.0][f"cosine_of_{part}"] + 0.02
