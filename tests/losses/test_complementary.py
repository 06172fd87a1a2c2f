from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from tutelage import losses

# The card's three samples.
TEACHER = torch.tensor([[2.0, 0, 0], [0, 3, 0], [0, 0, 1]])
INITIAL = torch.tensor([[1.0, 0, 0], [2, 0, 0], [0, 0, 4]])
LABELS = torch.tensor([0, 0, 2])


def teacher_share(partition, labels=LABELS):
    return losses.teaching_shares(INITIAL, TEACHER[None], labels, partition=partition)[1].tolist()


@pytest.mark.parametrize(
    ("partition", "share"),
    [
        ("supervised", [1, 0, 0]),
        ("unsupervised", [1, 1, 0]),
        # The teacher is right on samples 0 and 2, the student on all.
        ("flip_st", [0, 0, 0]),
        ("flip_t", [1, 0, 1]),
        ("flip_avg", [0.5, 0, 0.5]),
        ("self", [0, 0, 0]),
        ("teacher", [1, 1, 1]),
    ],
)
def test_the_worked_partitions(partition, share):
    assert teacher_share(partition) == share


def test_only_what_names_right_and_wrong_needs_labels():
    assert teacher_share("unsupervised", None) == [1, 1, 0]
    for partition in ("supervised", "flip_st", "flip_t", "flip_avg"):
        with pytest.raises(ValueError, match=r"needs \[3\] class indices as labels, got none"):
            teacher_share(partition, None)
        with pytest.raises(ValueError, match=r"torch\.float32"):
            teacher_share(partition, torch.ones(3, 3) / 3)


def test_whoever_alone_is_right_teaches():
    right, wrong = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 3.0])
    initial, teacher = torch.stack([right, right, wrong, wrong]), torch.stack([right, wrong, right, wrong])
    shares = {
        p: losses.teaching_shares(initial, teacher[None], torch.zeros(4, dtype=torch.long), partition=p)[1].tolist()
        for p in ("flip_st", "flip_t", "flip_avg")
    }
    assert shares == {"flip_st": [0, 0, 1, 0], "flip_t": [1, 0, 1, 1], "flip_avg": [0.5, 0, 1, 0.5]}


@pytest.mark.parametrize(
    ("partition", "temperature", "expected"),
    [
        ("supervised", 1.0, 0.0329620),
        ("supervised", 2.0, 0.0413207),
        ("unsupervised", 1.0, 0.6270933),
        ("unsupervised", 2.0, 0.7951080),
        ("teacher", 1.0, 0.8791536),
        ("self", 1.0, 0.0),
    ],
)
def test_the_worked_losses_of_a_student_at_its_start(partition, temperature, expected):
    shares = losses.teaching_shares(INITIAL, TEACHER[None], LABELS, partition=partition)
    target = losses.shared_target(torch.stack([INITIAL, TEACHER]), shares)
    value = losses.top_divergence(INITIAL, target, temperature=temperature).mean().item()
    assert value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("partition", ["supervised", "unsupervised"])
def test_a_teacher_like_the_student_teaches_nothing(partition):
    shares = losses.teaching_shares(INITIAL, INITIAL[None], LABELS, partition=partition)
    assert shares[1].tolist() == [0, 0, 0]
    student = INITIAL.clone().requires_grad_()
    value = losses.top_divergence(student, losses.shared_target(torch.stack([INITIAL, INITIAL]), shares)).sum()
    value.backward()
    assert value.item() == 0
    assert student.grad.abs().max() < 1e-7


def test_several_teachers_against_a_loop():
    draw = torch.Generator().manual_seed(0)
    sources, labels = torch.randn(4, 30, 5, generator=draw), torch.randint(5, (30,), generator=draw)
    p = softmax(sources.numpy(), -1)
    for partition in ("supervised", "unsupervised"):
        shares = losses.teaching_shares(sources[0], sources[1:], labels, partition=partition)
        target = losses.shared_target(sources, shares)
        for i in range(30):
            known = [p[s, i, labels[i]] if partition == "supervised" else p[s, i].max() for s in range(4)]
            assert shares[:, i].argmax() == int(np.argmax(known))
            assert torch.equal(target[i], sources[int(np.argmax(known)), i])


def test_the_first_wins_a_tie_and_an_unheard_source_may_be_infinite():
    same = torch.tensor([[1.0, 2.0]])
    shares = losses.teaching_shares(same, torch.stack([same, same]), partition="unsupervised")
    assert shares.tolist() == [[1], [0], [0]]
    masked = torch.tensor([[0.0, float("-inf")]])
    assert torch.equal(losses.shared_target(torch.stack([same, masked]), torch.tensor([[1.0], [0.0]])), same)


def test_nothing_flows_back_into_the_choice():
    teacher, initial = TEACHER.clone().requires_grad_(), INITIAL.clone().requires_grad_()
    assert not losses.teaching_shares(initial, teacher[None], LABELS, partition="supervised").requires_grad


@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_divergence_over_the_top_against_numpy(k):
    draw = torch.Generator().manual_seed(1)
    student, target = torch.randn(2, 6, 4, generator=draw)
    got = losses.top_divergence(student, target, k=k, temperature=1.7)
    for i in range(6):
        best = np.argsort(-target[i].numpy())[:k]
        p, q = (log_softmax(z[i].numpy()[best] / 1.7) for z in (target, student))
        assert got[i].item() == pytest.approx(1.7**2 * float((np.exp(p) * (p - q)).sum()), abs=1e-5)


def test_all_classes_are_the_plain_divergence_and_its_gradient():
    student = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    target = torch.randn(5, 4, dtype=torch.float64)
    assert torch.allclose(
        losses.top_divergence(student, target, temperature=3.0),
        losses.kl_divergence(student, target, temperature=3.0),
    )
    assert torch.autograd.gradcheck(lambda z: losses.top_divergence(z, target, k=2), student)


@pytest.mark.parametrize("true", [0.4, 1.0, 3.5])
def test_the_temperature_against_scipy(true):
    draw = torch.Generator().manual_seed(2)
    honest = torch.randn(2000, 5, generator=draw) * 2
    labels = torch.multinomial(honest.softmax(-1), 1, generator=draw).squeeze(-1)
    found = losses.best_temperature(honest * true, labels)

    def nll(log_t):
        return torch.nn.functional.cross_entropy(honest * true / math.exp(log_t), labels).item()

    best = math.exp(minimize_scalar(nll, bounds=(-3, 3), method="bounded", options={"xatol": 1e-5}).x)
    assert found == pytest.approx(best, rel=3e-3)
    assert found == pytest.approx(true, rel=0.1)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: losses.teaching_shares(INITIAL, TEACHER, partition="self"), r"expected \[batch, classes\] and"),
        (
            lambda: losses.teaching_shares(INITIAL, torch.stack([TEACHER, TEACHER]), LABELS, partition="flip_t"),
            "knows one teacher, not 2",
        ),
        (lambda: losses.teaching_shares(INITIAL, TEACHER[None], LABELS, partition="flip"), "there is no partition"),
        (lambda: losses.top_divergence(INITIAL, TEACHER[:2]), "both must have one shape"),
        (lambda: losses.top_divergence(INITIAL, TEACHER, k=4), r"k must lie in \[1, 3\]"),
        (lambda: losses.top_divergence(INITIAL, TEACHER, temperature=0.0), "temperature must be above 0"),
    ],
)
def test_bad_input(call, text):
    with pytest.raises(ValueError, match=text):
        call()
