"""Pseudo-subclasses: the card's numbers, and formulations that share no line with the losses."""

from __future__ import annotations

import pytest
import torch

from tutelage.losses import (
    class_logits,
    kl_divergence,
    logit_null_space,
    principal_directions,
    soft_cross_entropy,
    subclass_divergence,
    subclass_scores,
    subclass_targets,
)

WEIGHT = torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]])
CLASS_0 = torch.tensor([[2.0, 3, 0, 0], [3, -3, 0, 0], [2, 0, 1, 0], [3, 0, -1, 0]], dtype=torch.float64)
TURN = torch.tensor([[1.0, 1], [1, -1]], dtype=torch.float64) / 2**0.5


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_projection_removes_what_the_logits_say():
    assert torch.allclose(logit_null_space(WEIGHT), torch.diag(torch.tensor([0.0, 1, 1, 1]).double()))


def test_the_projection_ignores_scale_and_what_all_classes_share():
    weight = random(3, 6)
    projection = logit_null_space(weight)
    assert torch.allclose(logit_null_space(7 * weight + random(1, 6, seed=1)), projection, atol=1e-12)
    assert torch.allclose(projection @ projection, projection, atol=1e-12)
    logits = random(5, 6, seed=2) @ projection @ weight.T
    assert torch.allclose(logits.softmax(-1), torch.full((5, 3), 1 / 3).double())
    assert torch.linalg.matrix_rank(projection) == 4


def test_a_classifier_that_says_nothing_hides_nothing():
    assert torch.allclose(logit_null_space(torch.ones(3, 4)), torch.eye(4).double())


def test_the_directions_of_the_card():
    projected = CLASS_0 @ logit_null_space(WEIGHT)
    mean, axes = principal_directions(projected, 2)
    assert torch.allclose(mean, torch.zeros(4).double())
    plain = (projected - mean) @ axes
    assert plain.square().mean(0).tolist() == pytest.approx([4.5, 0.5])
    _, turned = principal_directions(projected, 2, TURN)
    scores = (projected - mean) @ turned
    assert scores.square().mean(0).tolist() == pytest.approx([2.5, 2.5])
    assert scores[0].abs().tolist() == pytest.approx([2.121320, 2.121320], abs=1e-6)
    assert scores[2].abs().tolist() == pytest.approx([0.707107, 0.707107], abs=1e-6)
    assert scores.square().mean().sqrt().item() == pytest.approx(1.5811388, abs=1e-6)


def test_directions_are_eigenvectors_of_the_covariance_with_fixed_signs():
    samples = random(30, 5) * torch.tensor([5.0, 1, 3, 0.5, 2])
    mean, axes = principal_directions(samples, 3)
    values, vectors = torch.linalg.eigh(torch.cov(samples.T))
    expected = vectors[:, values.argsort(descending=True)[:3]]
    assert torch.allclose((axes * expected).sum(0).abs(), torch.ones(3).double())
    assert (axes.gather(0, axes.abs().argmax(0, keepdim=True)) > 0).all()
    assert torch.allclose(mean, samples.mean(0))


def test_samples_that_vary_along_fewer_directions_give_fewer():
    assert principal_directions(random(3, 8), 5)[1].shape == (8, 2)
    assert principal_directions(torch.ones(4, 8), 5)[1].shape == (8, 0)


def scored(embeddings=CLASS_0):
    projected = embeddings @ logit_null_space(WEIGHT)
    mean, axes = principal_directions(projected, 2, TURN)
    scale = ((projected - mean) @ axes).square().mean().sqrt()
    other = torch.zeros(1, 4, 2).double()
    return subclass_scores(
        projected, torch.stack([mean, mean]), torch.cat([axes[None], other]), torch.stack([scale, torch.ones(())])
    )


def test_scores_and_shares_of_the_card():
    scores = scored()
    assert scores[0, 0].abs().tolist() == pytest.approx([1.341641, 1.341641], abs=1e-6)
    assert scores[2, 0].abs().tolist() == pytest.approx([0.447214, 0.447214], abs=1e-6)
    within = (scores / 0.5).softmax(-1)
    assert within[0, 0].tolist() == pytest.approx([0.5, 0.5], abs=1e-6)
    assert sorted(within[2, 0].tolist()) == pytest.approx([0.143213, 0.856787], abs=1e-6)
    assert within[3, 0].tolist() == pytest.approx(within[2, 0].flip(0).tolist(), abs=1e-6)


PROBABILITIES = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.95, 0.05]], dtype=torch.float64)


def test_targets_and_divergence_of_the_card():
    within = (scored() / 0.5).softmax(-1)
    # The sign of a direction is a convention; the card's is the one with the larger share first.
    if within[2, 0, 0] < 0.5:
        within = within.flip(-1)
    target = subclass_targets(PROBABILITIES.log(), within)
    assert target[2].flatten().tolist() == pytest.approx([0.599751, 0.100249, 0.15, 0.15], abs=1e-6)
    student = torch.tensor([1.0, 0, -1, 0], dtype=torch.float64).view(1, 2, 2).expand(4, 2, 2)
    assert soft_cross_entropy(student.flatten(1), target.flatten(1)).mean().item() == pytest.approx(1.3113225, abs=1e-6)
    between, inside = subclass_divergence(student, target)
    assert between.mean().item() == pytest.approx(0.0670455, abs=1e-6)
    assert inside.mean().item() == pytest.approx(0.2589009, abs=1e-6)
    assert (between + inside).mean().item() == pytest.approx(0.3259464, abs=1e-6)
    assert class_logits(student).softmax(-1)[0].tolist() == pytest.approx([0.731059, 0.268941], abs=1e-6)


def test_targets_have_the_teachers_class_probabilities():
    teacher, within = 5 * random(9, 4), random(9, 4, 3, seed=1).softmax(-1)
    target = subclass_targets(teacher, within, temperature=2.0)
    assert (target.sum(-1) - (teacher / 2).softmax(-1)).abs().max() < 1e-12


def test_one_subclass_a_class_is_plain_distillation():
    student, teacher = random(5, 4, 1), random(5, 4, seed=1)
    target = subclass_targets(teacher, torch.ones(5, 4, 1).double(), temperature=3.0)
    between, inside = subclass_divergence(student, target, temperature=3.0)
    assert torch.allclose(between, kl_divergence(student.squeeze(-1), teacher, temperature=3.0))
    assert torch.allclose(inside, torch.zeros(5).double(), atol=1e-12)


def test_the_parts_are_those_of_a_loop():
    student, target = random(2, 3, 4), random(2, 12, seed=1).softmax(-1).view(2, 3, 4)
    between, inside = subclass_divergence(student, target)
    for i in range(2):
        ours = student[i].flatten().softmax(0).view(3, 4)
        outer = inner = 0.0
        for c in range(3):
            p, q = target[i, c].sum(), ours[c].sum()
            outer += p * (p / q).log()
            for s in range(4):
                t, u = target[i, c, s] / p, ours[c, s] / q
                inner += p * t * (t / u).log()
        assert between[i].item() == pytest.approx(outer.item())
        assert inside[i].item() == pytest.approx(inner.item())


def test_a_subclass_that_does_not_exist_costs_nothing_and_gets_no_gradient():
    student = random(2, 2, 3).requires_grad_()
    within = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]).double().expand(2, 2, 3)
    hidden = torch.tensor([[False, False, True], [False, True, True]])
    target = subclass_targets(random(2, 2, seed=1), within)
    between, inside = subclass_divergence(student.masked_fill(hidden, float("-inf")), target)
    (between + inside).sum().backward()
    assert torch.isfinite(between).all()
    assert torch.isfinite(inside).all()
    assert torch.isfinite(student.grad).all()
    assert (student.grad[:, hidden] == 0).all()


def test_the_gradient_is_that_of_the_cross_entropy():
    student, target = random(3, 2, 4).requires_grad_(), random(3, 8, seed=1).softmax(-1).view(3, 2, 4)
    (ours,) = torch.autograd.grad(sum(subclass_divergence(student, target)).sum(), student)
    (theirs,) = torch.autograd.grad(soft_cross_entropy(student.flatten(1), target.flatten(1)).sum(), student)
    assert torch.allclose(ours, theirs, atol=1e-12)
    assert torch.autograd.gradcheck(lambda z: sum(subclass_divergence(z, target, temperature=2.0)), student)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: logit_null_space(torch.ones(3)), "classes, width"),
        (lambda: principal_directions(torch.ones(0, 3), 1), "samples, width"),
        (lambda: principal_directions(random(9, 3), 2, torch.eye(3)), "rotation of 2"),
        (lambda: subclass_targets(torch.ones(2, 3), torch.ones(2, 4, 5)), "batch, classes, subclasses"),
        (lambda: subclass_divergence(torch.ones(2, 3, 4), torch.ones(2, 3, 5)), "one shape"),
        (lambda: subclass_scores(torch.ones(2, 3), torch.ones(2, 4), torch.ones(2, 4, 1), torch.ones(2)), "batch, 4"),
    ],
)
def test_shapes_that_do_not_fit(call, said):
    with pytest.raises(ValueError, match=said):
        call()
