"""PESF-KD: the card's identities, what moves and what does not, the published variant, and an outcome on digits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tutelage.data.batch import Batch
from tutelage.distill.kd import KD
from tutelage.distill.pesf_kd import PESFKD, HeadAdapter
from tutelage.engine import checkpoint
from tutelage.losses import corrected, cross_entropy, kl_divergence
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError, RecipeError

GENERATOR = torch.Generator().manual_seed(0)
STUDENT = torch.randn(6, 4, generator=GENERATOR)
TEACHER = 3 * torch.randn(6, 4, generator=GENERATOR)
EMBEDDING = torch.randn(6, 5, generator=GENERATOR)
BATCH = Batch(torch.zeros(6, 1), torch.tensor([0, 1, 2, 3, 0, 1]), torch.arange(6), torch.arange(6))


def ready(**changes):
    """A method as after set-up."""
    method = PESFKD(**changes)
    if method.mode == "adapter":
        width = 5 if method.adapter_input == "feature" else 4
        method.adapter = HeadAdapter(width, 4, rank=3, form=method.form, dropout=method.dropout, zero=method.zero_init)
    return method


def teacher(logits=TEACHER):
    return Outputs(logits, {"embedding": EMBEDDING})


@pytest.mark.parametrize("changes", [{}, {"form": "language"}, {"adapter_input": "logits"}, {"mode": "frozen"}])
def test_a_zero_adapter_gives_the_student_the_gradient_of_classic_distillation(changes):
    gradients = []
    for method in (ready(temperature=4.0, **changes), KD(temperature=4.0, alpha=0.5)):
        student = STUDENT.clone().requires_grad_()
        method.loss(Outputs(student), teacher(), BATCH).total().backward()
        gradients.append(student.grad)
    torch.testing.assert_close(gradients[0], 2 * gradients[1])


def test_the_terms_and_their_weights():
    method = ready(temperature=2.0, alpha=3.0, gamma=0.5, teacher_ce=2.0, zero_init=False)
    losses = method.loss(Outputs(STUDENT), teacher(), BATCH)
    adapted = TEACHER - method.adapter.up(torch.relu(method.adapter.down(method.adapter.first(EMBEDDING))))
    expected = (
        0.5 * cross_entropy(STUDENT, BATCH.labels).mean()
        + 3.0 * kl_divergence(STUDENT, adapted, temperature=2.0).mean()
        + 2.0 * cross_entropy(adapted, BATCH.labels).mean()
    )
    torch.testing.assert_close(losses.total(), expected)
    gap = (torch.logsumexp(adapted, -1) - torch.logsumexp(STUDENT, -1)).mean()
    torch.testing.assert_close(losses.means()["sharpness_gap"], gap.detach())


def test_the_language_form_by_hand():
    method = ready(form="language", zero_init=False).eval()
    adapter = method.adapter
    expected = TEACHER + adapter.first(EMBEDDING) + adapter.up(torch.relu(adapter.down(EMBEDDING)))
    torch.testing.assert_close(method.adapted(teacher()), expected)
    assert adapter.drop.p == 0.1
    assert adapter.down.in_features == 5


def test_the_divergence_moves_the_adapter_towards_the_student_and_the_teacher_not_at_all():
    logits, embedding = TEACHER.clone().requires_grad_(), EMBEDDING.clone().requires_grad_()
    method = ready(teacher_ce=0.0, gamma=0.0, temperature=2.0)
    optimizer = torch.optim.Adam(method.parameters(), lr=0.05)
    apart = []
    for _ in range(30):
        losses = method.loss(Outputs(STUDENT), Outputs(logits, {"embedding": embedding}), BATCH)
        optimizer.zero_grad()
        losses.total().backward()
        optimizer.step()
        apart.append(losses.means()["transfer"].item())
    assert apart[-1] < 0.5 * apart[0]
    assert logits.grad is None
    assert embedding.grad is None


def test_squared_distances_of_probabilities():
    losses = ready(distance="mse", temperature=5.0).loss(Outputs(STUDENT), teacher(), BATCH)
    sides = [(side / 5).softmax(-1) for side in (STUDENT, TEACHER)]
    torch.testing.assert_close(losses.means()["transfer"], 25 * nn.functional.mse_loss(*sides))


def test_the_published_variant_corrects_both_sides():
    method = ready(correct_labels=True, temperature=2.0, zero_init=False)
    student = STUDENT.clone().requires_grad_()
    losses = method.loss(Outputs(student), teacher(), BATCH)
    raw = kl_divergence(STUDENT, corrected(TEACHER, BATCH.labels), temperature=2.0)
    torch.testing.assert_close(losses["transfer"], raw)
    back = kl_divergence(method.adapted(teacher()), corrected(STUDENT, BATCH.labels), temperature=2.0)
    torch.testing.assert_close(losses["back"], back)
    # The student sees the raw teacher, and only the adapter sees the student.
    losses.weighted(task=0.0, transfer=0.0).total().backward()
    assert student.grad is None or not student.grad.any()
    assert method.adapter.up.weight.grad.any()


def test_zero_is_where_the_teacher_starts_and_not_where_the_code_does():
    for form in ("vision", "language"):
        torch.testing.assert_close(ready(form=form).eval().adapted(teacher()), TEACHER)
        assert not torch.allclose(ready(form=form, zero_init=False).eval().adapted(teacher()), TEACHER)


# ---------------------------------------------------------------------- runs


def ends(finished):
    found = {}
    for stage in ("teacher", "transfer"):
        _, state = checkpoint.load(next((finished.folder / "stages" / stage / "end").glob("step-*")))
        found[stage] = state
    return found


CONV = {"model": "convnet", "width": 2, "depth": 2}


def moved(before, after):
    return {key: not torch.equal(before[key], after[key]) for key in before}


def test_only_student_and_adapter_move_and_the_adapter_at_its_own_rate(recipe, go):
    found = {}
    for name, rate in (("slow", 1e-6), ("fast", 1.0)):
        mapping = recipe({"name": "pesf-kd", "adapter_rate": rate}, epochs=1)
        mapping["teacher"] = {**CONV, "weights": mapping["teacher"]["weights"]}
        found[name] = ends(go(mapping))
        # Statistics of batch normalisation included, and the stage saved no other teacher.
        assert set(found[name]["transfer"]["models"]) == {"student"}
    up = {name: states["transfer"]["method"]["adapter.up.weight"].abs().max().item() for name, states in found.items()}
    assert 0 < up["slow"] < 1e-3 < up["fast"]


def test_online_all_of_the_teacher_moves(recipe, go):
    mapping = recipe({"name": "pesf-kd", "mode": "online", "adapter_rate": 1.0}, epochs=1)
    mapping["teacher"] = {**CONV, "weights": mapping["teacher"]["weights"]}
    states = ends(go(mapping))
    changed = moved(states["teacher"]["models"]["teacher"], states["transfer"]["models"]["teacher"])
    assert all(changed.values()), [key for key, value in changed.items() if not value]


def test_the_adapted_teacher_comes_to_its_student_and_stays_right(recipe, go):
    found = {}
    train = {"epochs": 20, "batch_size": 30, "optimizer": {"name": "adam", "lr": 3e-3}, "schedule": "constant"}
    for mode in ("frozen", "adapter"):
        report = go(
            recipe(
                {"name": "pesf-kd", "mode": mode, "temperature": 4.0, "adapter_rate": 1.0},
                teacher={"model": "convnet", "width": 8, "depth": 2, "weights": {"train": {**train, "epochs": 30}}},
                data={"name": "digits", "limit": 300},
                train=train,
            )
        ).report
        found[mode] = report["findings"]
    frozen, adapted = found["frozen"], found["adapter"]
    assert frozen["sharpness_gap"] == frozen["plain_sharpness_gap"] > 0
    assert adapted["sharpness_gap"] < adapted["plain_sharpness_gap"] - 0.2
    assert adapted["adapted_kl"] < 0.9 * frozen["adapted_kl"]
    assert adapted["adapted_accuracy"] >= frozen["adapted_accuracy"] - 0.01
    assert adapted["adapter_parameters"] < 0.25 * adapted["teacher_parameters"]


def test_other_losses_stand_beside_it_and_leave_the_adapter_its_rate(recipe, go):
    state = ends(go(recipe({"name": "pesf-kd", "adapter_rate": 1e-6}, also=["rkd"], epochs=1)))["transfer"]
    assert 0 < state["method"]["first.adapter.up.weight"].abs().max().item() < 1e-3


# ---------------------------------------------------------------------- mistakes


def test_it_cannot_stand_beside_another_method(recipe, go):
    with pytest.raises(RecipeError, match="at a rate of its own"):
        go(recipe("kd", also=["pesf-kd"]))


def test_a_rank_of_nothing_is_refused(recipe, go):
    with pytest.raises(RecipeError, match=r"method\.rank: found 0"):
        go(recipe({"name": "pesf-kd", "rank": 0}))


def test_mixed_labels_cannot_be_corrected():
    mixed = BATCH.with_(labels=torch.full((6, 4), 0.25))
    assert torch.isfinite(ready().loss(Outputs(STUDENT), teacher(), mixed).total())
    with pytest.raises(InputError, match=r"method\.correct_labels"):
        ready(correct_labels=True).loss(Outputs(STUDENT), teacher(), mixed)
