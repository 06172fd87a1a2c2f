from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from tutelage import losses
from tutelage.losses import Divergence, Head, SparseTargets, projected_loss, sparse_divergence

EVERY = [
    Divergence("forward-kl", temperature=2.0),
    Divergence("reverse-kl"),
    Divergence("symmetric-kl", share=0.3),
    Divergence("jsd", beta=0.2, temperature=1.5),
    Divergence("jsd", beta=0.0),
    Divergence("skew-kl"),
    Divergence("skew-reverse-kl", scale=False, temperature=0.8),
    Divergence("total-variation"),
]
every = pytest.mark.parametrize("divergence", EVERY, ids=[f"{one.name}-{n}" for n, one in enumerate(EVERY)])


def random_logits(seed: int, *shape: int) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kept(logits: Tensor, k: int, temperature: float = 1.0) -> SparseTargets:
    log_p = torch.log_softmax(logits / temperature, -1)
    top = log_p.topk(k, -1)
    rest = log_p.scatter(-1, top.indices, float("-inf")).logsumexp(-1)
    return SparseTargets(top.indices, top.values, rest)


def filled(targets: SparseTargets, more: int) -> SparseTargets:
    """The same with entries that fill up."""
    ids = torch.nn.functional.pad(targets.ids, (0, more), value=-1)
    return SparseTargets(ids, torch.nn.functional.pad(targets.log_probs, (0, more), value=0.5), targets.tail)


@every
def test_what_is_not_known_one_by_one_is_one_entry(divergence):
    student, teacher = random_logits(0, 2, 3, 9), random_logits(1, 2, 3, 9)
    targets = kept(teacher, 4, divergence.temperature)
    found = sparse_divergence(student, targets, divergence)
    plain = replace(divergence, temperature=1.0)
    for place in ((0, 1), (1, 2)):
        sides = []
        for logits in (student, teacher):
            shares = (logits[place] / divergence.temperature).softmax(-1)
            known = shares[targets.ids[place]]
            sides.append(torch.cat([known, (1 - known.sum())[None]]).log())
        torch.testing.assert_close(found[place], plain(*sides) * divergence.factor)
    torch.testing.assert_close(sparse_divergence(student, filled(targets, 3), divergence), found)
    # Knowing less never makes it larger, and knowing all makes it the whole divergence.
    assert (found <= divergence(student, teacher) + 1e-12).all()
    torch.testing.assert_close(
        sparse_divergence(student, kept(teacher, 9, divergence.temperature), divergence), divergence(student, teacher)
    )


@every
def test_zero_and_flat_where_the_student_agrees_with_all_that_is_known(divergence):
    teacher = random_logits(0, 3, 9)
    student = teacher.clone().requires_grad_()
    value = sparse_divergence(student, kept(teacher, 4, divergence.temperature), divergence)
    torch.testing.assert_close(value, torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)
    assert torch.autograd.grad(value.sum(), student)[0].abs().max() < 1e-9


@every
def test_gradients(divergence):
    targets = filled(kept(random_logits(1, 3, 7), 3, divergence.temperature), 2)
    assert gradcheck(lambda s: sparse_divergence(s, targets, divergence), (random_logits(0, 3, 7).requires_grad_(),))


def head(dtype: torch.dtype = torch.float64) -> Head:
    parts = [random_logits(seed, *shape).to(dtype) for seed, shape in ((5, (2, 4, 3)), (6, (9, 3)), (7, (9,)))]
    return Head(*(part.requires_grad_() for part in parts))


@every
@pytest.mark.parametrize("beside", [False, True])
def test_from_hidden_states(divergence, beside):
    student, mask = head(), torch.tensor([[1, 1, 0, 1], [0, 1, 1, 0]]).bool()
    targets = filled(kept(random_logits(1, 2, 4, 9), 4, divergence.temperature), 2)
    labels = torch.arange(8).view(2, 4) if beside else None
    found = projected_loss(student, targets, divergence=divergence, labels=labels, mask=mask, chunk_bytes=200)
    expected = sparse_divergence(student.logits(), targets, divergence)
    torch.testing.assert_close(found.divergence[mask], expected[mask])
    if labels is not None:
        expected = expected + losses.cross_entropy(student.logits(), labels)
    mean, count = losses.token_mean(expected, mask)
    torch.testing.assert_close(found.loss, mean)
    assert found.tokens == count
    parts = (student.hidden, student.weight, student.bias)
    plain = torch.autograd.grad(mean, parts)
    for one, other in zip(torch.autograd.grad(found.loss, parts), plain, strict=True):
        torch.testing.assert_close(one, other)


def test_a_vocabulary_cut_to_its_tokens():
    student, targets = head(), kept(random_logits(1, 2, 4, 7), 3)
    found = projected_loss(student, targets, vocabulary=7)
    torch.testing.assert_close(found.loss, sparse_divergence(student.logits()[..., :7], targets).mean())
    assert (torch.autograd.grad(found.loss, student.weight)[0][7:] == 0).all()


def sampled(teacher: Tensor, rounds: int, seed: int) -> SparseTargets:
    """Each row's draws, each token once, with its share of them."""
    drawn = torch.multinomial(
        teacher.softmax(-1), rounds, replacement=True, generator=torch.Generator().manual_seed(seed)
    )
    rows = [row.unique(return_counts=True) for row in drawn]
    width = max(len(ids) for ids, _ in rows)
    ids, shares = torch.full((len(rows), width), -1), torch.zeros(len(rows), width, dtype=torch.float64)
    for row, (tokens, counts) in enumerate(rows):
        ids[row, : len(tokens)], shares[row, : len(tokens)] = tokens, (counts / rounds).log()
    return SparseTargets(ids, shares, None)


def test_sampled_entries_are_right_in_the_mean():
    student, teacher = random_logits(0, 1, 9), random_logits(1, 1, 9)
    exact = losses.soft_cross_entropy(student, teacher.softmax(-1))
    leaf = student.clone().requires_grad_()
    (direction,) = torch.autograd.grad(losses.kl_divergence(leaf, teacher).sum(), leaf)
    many = sampled(teacher.expand(4000, 9), 12, 0)
    spread = student.expand(4000, 9).clone().requires_grad_()
    values = sparse_divergence(spread, many)
    error = values.std() / math.sqrt(4000)
    assert (values.mean() - exact).abs() < 4 * error
    slopes = torch.autograd.grad(values.sum(), spread)[0]
    assert ((slopes.mean(0) - direction[0]).abs() < 4 * slopes.std(0) / math.sqrt(4000) + 1e-12).all()
    # Each draw alone is far off: it is the mean that is right.
    assert values.std() > 0.05 * exact.abs().item()


def test_sampled_entries_from_hidden_states():
    student = head()
    targets = sampled(random_logits(1, 8, 9), 6, 1)
    flat = replace(student, hidden=student.hidden.reshape(8, 3))
    found = projected_loss(flat, targets, divergence=Divergence(temperature=2.0), chunk_bytes=200)
    expected = sparse_divergence(flat.logits(), targets, Divergence(temperature=2.0)).mean()
    torch.testing.assert_close(found.loss, expected)
    one, other = (torch.autograd.grad(loss, student.weight)[0] for loss in (found.loss, expected))
    torch.testing.assert_close(one, other)


def test_a_teacher_that_is_certain_and_a_student_that_rules_it_out_stay_finite():
    targets = SparseTargets(torch.tensor([[1, -1]]), torch.tensor([[0.0, 0.0]]), torch.tensor([-float("inf")]))
    student = Head(torch.tensor([[200.0]]), torch.tensor([[1.0], [-1.0], [0.5]]).requires_grad_())
    found = projected_loss(student, targets)
    torch.testing.assert_close(found.loss, sparse_divergence(student.logits(), targets).mean())
    assert found.loss.item() == pytest.approx(400.0)
    assert torch.autograd.grad(found.loss, student.weight)[0].isfinite().all()


TARGETS = kept(random_logits(1, 3, 9), 4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: sparse_divergence(random_logits(0, 2, 9), TARGETS),
        lambda: sparse_divergence(random_logits(0, 3, 9), TARGETS, Divergence("sorted")),
        lambda: sparse_divergence(random_logits(0, 3, 9), TARGETS._replace(tail=None), Divergence("jsd")),
        lambda: sparse_divergence(random_logits(0, 3, 9), TARGETS._replace(tail=torch.zeros(2))),
        lambda: sparse_divergence(random_logits(0, 3, 9), TARGETS._replace(ids=TARGETS.ids[:, :2])),
        lambda: projected_loss(head(), TARGETS),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(ValueError):
        call()
