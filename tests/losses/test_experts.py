from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from tutelage import losses

# The card's three experts, one sample of class 0.
EXPERTS = torch.tensor([[[2, 1, 0.5, -1]], [[1, 3, -0.5, 0]], [[3, 0, 1.5, -2]]])
LABEL = torch.tensor([0])


def test_the_worked_example():
    ce = losses.cross_entropy(EXPERTS, LABEL.expand(3, 1)).sum().item()
    hns = losses.hardest_negative_suppression(EXPERTS, LABEL).item() / 4
    mutual = losses.mutual_divergence(EXPERTS).item() / 4
    assert ce == pytest.approx(2.936779, abs=1e-5)
    assert hns == pytest.approx(2.431929, abs=1e-5)
    assert mutual == pytest.approx(1.575070, abs=1e-5)
    assert ce + 10 * hns + mutual == pytest.approx(28.831143, abs=1e-4)
    excluded = losses.hardest_negative_suppression(EXPERTS, LABEL, target="excluded").item()
    assert excluded == pytest.approx(1.448607, abs=1e-5)


def test_the_grand_teacher():
    teacher = losses.grand_teacher(EXPERTS, LABEL)
    assert teacher[0].tolist() == pytest.approx([0, 4 / 3, 1.5, 0])
    assert teacher.softmax(-1)[0].tolist() == pytest.approx([0.097320, 0.369201, 0.436159, 0.097320], abs=1e-6)


def test_against_numpy():
    draw = torch.Generator().manual_seed(0)
    z, labels = torch.randn(3, 8, 5, generator=draw), torch.randint(5, (8,), generator=draw)
    mutual, hns = losses.mutual_divergence(z), losses.hardest_negative_suppression(z, labels)
    for b in range(8):
        rows, y = z[:, b].numpy().astype(float), int(labels[b])
        pairs = [
            (softmax(rows[j]) * (log_softmax(rows[j]) - log_softmax(rows[i]))).sum()
            for i in range(3)
            for j in range(3)
            if i != j
        ]
        assert mutual[b].item() == pytest.approx(sum(pairs), abs=1e-5)
        mean = rows.mean(0)
        order = [c for c in np.argsort(-mean) if c != y]
        g = rows.max(0)
        g[order[0]], g[y] = mean[order[0]], 0.0
        total = 0.0
        for row in rows:
            own = row.copy()
            own[y] = -30
            total += (softmax(g) * (log_softmax(g) - log_softmax(own))).sum()
        assert hns[b].item() == pytest.approx(total, abs=1e-4)


def test_equal_experts_have_nothing_to_teach_each_other():
    same = torch.randn(1, 6, 4).expand(3, -1, -1).clone().requires_grad_()
    value = losses.mutual_divergence(same).sum()
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert same.grad.abs().max() < 1e-6


@pytest.mark.parametrize("target", ["released", "excluded"])
def test_gradients_are_finite_and_stop_where_asked(target):
    z = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 4])
    assert torch.autograd.gradcheck(lambda x: losses.hardest_negative_suppression(x, labels, target=target), z)
    assert torch.autograd.gradcheck(losses.mutual_divergence, z)
    free = torch.autograd.grad(losses.hardest_negative_suppression(z, labels, target=target).sum(), z)[0]
    stopped = torch.autograd.grad(
        losses.hardest_negative_suppression(z, labels, target=target, detach_teacher=True).sum(), z
    )[0]
    assert not torch.allclose(free, stopped)
    # Only the expert's side: its distribution minus the grand teacher's, for each expert.
    teacher = losses.grand_teacher(z, labels)
    hidden = z.detach().scatter(-1, labels[None, :, None].expand(3, -1, 1), -30.0)
    if target == "released":
        wanted = hidden.softmax(-1) - teacher.softmax(-1)
        wanted = wanted.scatter(-1, labels[None, :, None].expand(3, -1, 1), 0.0)
        assert torch.allclose(stopped, wanted, atol=1e-9)


def test_the_balanced_loss():
    logits, counts = torch.tensor([[2, 1, 0.5, -1]]), torch.tensor([500, 100, 20, 5])
    assert losses.balanced_cross_entropy(logits, LABEL, counts).item() == pytest.approx(0.079734, abs=1e-5)
    assert losses.cross_entropy(logits, LABEL).item() == pytest.approx(0.495182, abs=1e-5)
    equal = losses.balanced_cross_entropy(logits, LABEL, torch.full((4,), 7))
    assert equal.item() == pytest.approx(0.495182, abs=1e-5)
    assert losses.balanced_cross_entropy(logits, LABEL, torch.tensor([5, 0, 0, 0])).item() == 0


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: losses.mutual_divergence(torch.ones(2, 3)), r"\[experts, batch, classes\]"),
        (lambda: losses.grand_teacher(EXPERTS, torch.tensor([[1.0, 0, 0, 0]])), r"need \[1\] class indices"),
        (lambda: losses.grand_teacher(EXPERTS[..., :1], LABEL), "at least 2 classes"),
        (lambda: losses.hardest_negative_suppression(EXPERTS, LABEL, target="none"), "'released' or 'excluded'"),
        (lambda: losses.balanced_cross_entropy(EXPERTS[0], LABEL, torch.ones(3)), "a count a class"),
    ],
)
def test_bad_input(call, text):
    with pytest.raises(ValueError, match=text):
        call()
