"""TopKD: the card's numbers at method level, its parts, and an outcome on digits."""

from __future__ import annotations

import pytest
import torch

from tutelage.data.batch import Batch
from tutelage.distill.topkd import TopKD
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
    from tutelage.losses import top_scale

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


def test_held_out_directions_come_closer_to_the_teachers(recipe, go):
    """What the card says may be asserted: the cosine of the largest logits exceeds that of the control."""
    from tutelage.losses import top_directions

    finished = go(recipe({"name": "topkd", "k": 3}, epochs=15, data={"name": "digits", "limit": 300}, baseline=True))
    found = {}
    for stage, name in (("teacher", "teacher"), ("transfer", "student"), ("baseline", "student")):
        found[stage] = logits(finished.folder, stage, name)
    ours, control = (top_directions(found[s], found["teacher"], k=3).mean() for s in ("transfer", "baseline"))
    assert ours < control - 0.05


def logits(folder, stage, name):
    from tutelage.data.digits import Digits
    from tutelage.engine import checkpoint
    from tutelage.models.mlp import MLP

    splits = Digits().load(0)
    model = MLP(splits.info, hidden=[32] if name == "teacher" else [16])
    _, state = checkpoint.load(next((folder / "stages" / stage / "end").glob("step-*")))
    model.load_state_dict(state["models"][name])
    with torch.no_grad():
        return model.eval()(splits.test.fetch(range(len(splits.test))).inputs)
