"""RKD: the card's numbers at method level, what it taps, and an outcome on digits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tutelage.data.batch import Batch, DataInfo
from tutelage.distill.rkd import RKD
from tutelage.engine.method import Room
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError

STUDENT = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
TEACHER = torch.tensor([[0.0, 0.0, 0.0], [3.0, 4.0, 0.0], [3.0, 4.0, 12.0]], dtype=torch.float64)
BATCH = Batch(torch.zeros(3, 1), torch.tensor([0, 1, 0]), torch.arange(3), torch.tensor([5, 3, 9]))


def outputs(embedding, classes=2):
    return Outputs(torch.zeros(len(embedding), classes, requires_grad=True), {"embedding": embedding})


def test_the_worked_example_with_its_weights():
    losses = RKD(distance_weight=2.0, angle_weight=3.0).loss(outputs(STUDENT), outputs(TEACHER), BATCH)
    assert losses["distance"].item() == pytest.approx(0.0358586, abs=1e-6)
    assert losses["angle"].item() == pytest.approx(0.0257249, abs=1e-6)
    task = torch.log(torch.tensor(2.0)).item()
    assert losses.total().item() == pytest.approx(task + 2 * 0.0358586 + 3 * 0.0257249, abs=1e-5)


def test_scaled_rotated_and_moved_copies_cost_nothing():
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).Q
    losses = RKD().loss(outputs(2.5 * TEACHER @ turn + 7), outputs(TEACHER), BATCH)
    assert losses["distance"].item() == pytest.approx(0.0, abs=1e-12)
    assert losses["angle"].item() == pytest.approx(0.0, abs=1e-12)


def test_without_a_task_the_labels_may_name_other_classes():
    batch = BATCH.with_(labels=torch.tensor([90, 91, 92]))
    losses = RKD(task_weight=0.0).loss(outputs(STUDENT), outputs(TEACHER), batch)
    assert set(losses) == {"distance", "angle"}


def test_the_angle_term_of_a_part_is_that_of_the_chosen_samples():
    four = Batch(torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64), torch.arange(4), torch.tensor([4, 1, 3, 2]))
    student, teacher = torch.randn(4, 2).double(), torch.randn(4, 3).double()
    part = RKD(max_triplet_batch=3).loss(outputs(student), outputs(teacher), four)["angle"]
    chosen = torch.tensor([1, 2, 3])
    whole = RKD().loss(outputs(student[chosen]), outputs(teacher[chosen]), BATCH)["angle"]
    assert part.item() == pytest.approx(whole.item(), abs=1e-9)


def test_normalising_changes_the_student_alone():
    plain = RKD().loss(outputs(STUDENT + 1), outputs(TEACHER), BATCH)["distance"]
    unit = RKD(normalize_student=True).loss(outputs(STUDENT + 1), outputs(TEACHER), BATCH)["distance"]
    by_hand = RKD().loss(outputs(nn.functional.normalize(STUDENT + 1)), outputs(TEACHER), BATCH)["distance"]
    assert unit.item() == pytest.approx(by_hand.item())
    assert unit.item() != pytest.approx(plain.item())


def test_the_teacher_gets_no_gradient():
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    RKD().loss(outputs(student), outputs(teacher), BATCH).total().backward()
    assert teacher.grad is None
    assert torch.isfinite(student.grad).all()


def test_a_tap_that_is_several_places_is_refused():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    room = Room(
        {"teacher": model, "student": nn.Sequential(nn.Linear(4, 2))},
        DataInfo((4,), 2, ("a", "b"), ""),
        BATCH.with_(inputs=torch.zeros(3, 4)),
        ["student"],
    )
    with pytest.raises(InputError, match="2 places of the teacher"):
        RKD(feature="*").setup(room)


def test_a_student_of_relations_alone_keeps_distances(recipe, go):
    """The embedding of a student that never saw a label lies like the teacher's, and more so than it did at first."""
    method = {"name": "rkd", "task_weight": 0.0, "distance_weight": 1.0, "angle_weight": 2.0}
    data = {"name": "digits", "limit": 300}
    found = {}
    for epochs in (1, 30):
        finished = go(recipe(method, epochs=epochs, data=data))
        found[epochs] = correlation(finished.folder)
    assert found[30] > found[1] + 0.03
    assert found[30] > 0.95


def correlation(folder):
    from tutelage.data.digits import Digits
    from tutelage.engine import checkpoint
    from tutelage.models.mlp import MLP
    from tutelage.models.participant import Participant

    splits = Digits().load(0)
    batch = splits.test.fetch(range(150))
    pairs = []
    for stage, name, hidden in (("teacher", "teacher", [32]), ("transfer", "student", [16])):
        model = MLP(splits.info, hidden=hidden)
        _, state = checkpoint.load(next((folder / "stages" / stage / "end").glob("step-*")))
        model.load_state_dict(state["models"][name])
        pairs.append(torch.pdist(Participant(name, model, trainable=False, taps=["embedding"])(batch).embedding))
    return float(torch.corrcoef(torch.stack(pairs))[0, 1])
