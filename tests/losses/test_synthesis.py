"""Losses of generated images: the cards' numbers, naive loops, and gradients by finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn import BatchNorm1d, functional

from tutelage import losses


def logits(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_class_balance_counts_in_tens() -> None:
    even = torch.zeros(4, 10, dtype=torch.float64)
    assert losses.class_balance(even).item() == pytest.approx(-1.0)
    one = torch.tensor([[100.0, 0.0], [100.0, 0.0]], dtype=torch.float64)
    assert losses.class_balance(one).item() == pytest.approx(0.0, abs=1e-12)
    both = torch.tensor([[100.0, 0.0], [0.0, 100.0]], dtype=torch.float64)
    assert losses.class_balance(both).item() == pytest.approx(-math.log10(2))
    assert gradcheck(losses.class_balance, (logits(0, 3, 4).requires_grad_(),))


def test_class_balance_wants_a_batch() -> None:
    with pytest.raises(ValueError, match=r"\[5\].*\[batch, classes\]"):
        losses.class_balance(torch.zeros(5))


def test_the_clamped_jensen_shannon_is_that_of_kl_div() -> None:
    student, teacher = 4 * logits(1, 6, 5), 4 * logits(2, 6, 5)
    p, q = (student / 3).softmax(1), (teacher / 3).softmax(1)
    m = 0.5 * (p + q)
    p, q, m = (side.clamp(0.01, 0.99) for side in (p, q, m))
    # torch's kl_div(log p, m) is m (log m − log p), as in the released code.
    sums = [functional.kl_div(side.log(), m, reduction="sum") for side in (p, q)]
    by_torch = 0.5 * sum(sums) / m.numel()
    assert losses.clamped_jensen_shannon(student, teacher).mean().item() == pytest.approx(by_torch.item())
    assert losses.clamped_jensen_shannon(student, student).abs().max().item() < 1e-12


@pytest.mark.parametrize("floor", [0.0, 0.5])
def test_a_floor_that_leaves_nothing_is_refused(floor: float) -> None:
    with pytest.raises(ValueError, match="floor"):
        losses.clamped_jensen_shannon(torch.zeros(1, 2), torch.zeros(1, 2), floor=floor)


def test_the_worked_example_of_the_statistics() -> None:
    rows = torch.tensor([[1.0, 1.0], [3.0, 5.0]])
    found = losses.statistics_distance(rows, torch.tensor([0.0, 1.0]), torch.tensor([1.0, 4.0]))
    assert found.item() == pytest.approx(2.828427, abs=1e-6)


def test_statistics_are_those_that_a_batch_normalisation_remembers() -> None:
    rows = logits(3, 16, 3).float()
    layer = BatchNorm1d(3, momentum=1.0)
    layer(rows)
    variance = layer.running_var * 15 / 16
    assert losses.statistics_distance(rows, layer.running_mean, variance).item() == pytest.approx(0.0, abs=1e-5)
    maps = rows.T.reshape(3, 4, 4).unsqueeze(0)
    assert losses.statistics_distance(maps, layer.running_mean, variance).item() == pytest.approx(0.0, abs=1e-5)


def test_equal_statistics_give_a_gradient_that_is_a_number() -> None:
    rows = torch.tensor([[1.0], [-1.0]], requires_grad=True)
    losses.statistics_distance(rows, torch.zeros(1), torch.ones(1)).backward()
    assert torch.equal(rows.grad, torch.zeros(2, 1))
    far = logits(4, 5, 3, 2).requires_grad_()
    assert gradcheck(lambda x: losses.statistics_distance(x, torch.ones(3).double(), torch.ones(3).double()), (far,))


def test_statistics_of_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[2, 3\], \[2\]"):
        losses.statistics_distance(torch.zeros(2, 3), torch.zeros(2), torch.zeros(2))


def test_the_worked_example_of_the_agreed_divergence() -> None:
    teacher = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    student = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    assert losses.kl_divergence(student, teacher).tolist() == pytest.approx([0.098886, 0.364175], abs=1e-6)
    agreed = losses.agreed_divergence(student, teacher)
    assert agreed[1].item() == 0.0
    assert -agreed.mean().item() == pytest.approx(-0.049443, abs=1e-6)


@pytest.mark.parametrize(("temperature", "expected"), [(0.5, 0.627123), (0.1, 0.127223)])
def test_the_worked_example_of_the_category_contrast(temperature: float, expected: float) -> None:
    anchors = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.6, 0.0, 0.8]])
    positives = torch.tensor([[0.8, 0.6, 0.0], [0.0, 1.0, 0.0], [0.6, 0.0, 0.8]])
    labels = torch.tensor([0, 1, 2])
    found = losses.category_contrast(anchors, positives, labels, temperature=temperature)
    assert found[0].item() == pytest.approx(expected, abs=1e-6)
    scaled = losses.category_contrast(3 * anchors, 0.2 * positives, labels, temperature=temperature)
    assert scaled[0].item() == pytest.approx(expected, abs=1e-6)
    more = [torch.cat([side, torch.tensor([[0.9, 0.1, 0.3]])]) for side in (anchors, positives)]
    with_same_class = losses.category_contrast(*more, torch.tensor([0, 1, 2, 0]), temperature=temperature)
    assert with_same_class[0].item() == pytest.approx(expected, abs=1e-6)


def test_the_category_contrast_is_that_of_a_loop() -> None:
    anchors, positives, labels = logits(5, 7, 4), logits(6, 7, 4), torch.tensor([0, 1, 0, 2, 1, 1, 0])
    h, other = functional.normalize(anchors), functional.normalize(positives)
    expected = []
    for i in range(7):
        own = math.exp(float(h[i] @ other[i]) / 0.5)
        rest = sum(math.exp(float(h[i] @ h[k]) / 0.5) for k in range(7) if labels[k] != labels[i])
        expected.append(-math.log(own / (own + rest)))
    assert losses.category_contrast(anchors, positives, labels).tolist() == pytest.approx(expected)
    alone = losses.category_contrast(anchors, positives, torch.zeros(7, dtype=torch.int64))
    assert alone.abs().max().item() < 1e-12
    inputs = (anchors.requires_grad_(), positives.requires_grad_())
    assert gradcheck(lambda a, b: losses.category_contrast(a, b, labels), inputs)


def test_bad_embeddings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"labels \[2\]"):
        losses.category_contrast(torch.zeros(3, 4), torch.zeros(3, 4), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="temperature"):
        losses.category_contrast(torch.zeros(3, 4), torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64), temperature=0)


def test_the_worked_example_of_suspicion() -> None:
    teacher = torch.tensor([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
    shuffled = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 2.0]])
    apart, alike = losses.suspicion(teacher, shuffled)
    assert alike.tolist() == [True, False, True]
    assert apart.tolist() == pytest.approx([0.091803, 0.259788, 0.037328], abs=1e-6)
    assert -0.1 * losses.mask_mean(apart, alike).item() == pytest.approx(-0.0064565, abs=1e-7)
