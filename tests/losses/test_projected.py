from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from tutelage import losses
from tutelage.losses import Divergence, Head, projected_loss

EVERY = [
    Divergence("forward-kl", temperature=2.0),
    Divergence("reverse-kl"),
    Divergence("symmetric-kl", share=0.9, temperature=1.5),
    Divergence("jsd", beta=0.1, temperature=0.7),
    Divergence("jsd", beta=0.5, temperature=2.0, scale=False),
    Divergence("jsd", beta=0.0),
    Divergence("jsd", beta=1.0, temperature=3.0),
    Divergence("skew-kl", alpha=0.1, temperature=1.3),
    Divergence("skew-reverse-kl", alpha=0.2),
    Divergence("skew-reverse-kl", alpha=0.0),
    Divergence("total-variation", temperature=2.0),
    Divergence("sorted", temperature=1.5),
    Divergence("sorted", top_k=4),
]
every = pytest.mark.parametrize("divergence", EVERY, ids=[f"{one.name}-{n}" for n, one in enumerate(EVERY)])
VOCABULARY = 11


def head(
    seed: int,
    *shape: int,
    width: int = 6,
    vocabulary: int = VOCABULARY,
    parts: str = "",
    dtype: torch.dtype = torch.float64,
) -> Head:
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64).to(dtype)

    return Head(
        normal(*shape, width),
        normal(vocabulary, width),
        normal(vocabulary) if "bias" in parts else None,
        normal(2, width) if "lora" in parts else None,
        normal(vocabulary, 2) if "lora" in parts else None,
        scaling=0.7,
    )


def leaves(of: Head) -> Head:
    parts = {field.name: getattr(of, field.name) for field in fields(of)}
    return Head(**{n: p.clone().requires_grad_() if isinstance(p, Tensor) else p for n, p in parts.items()})


def tensors(of: Head) -> list[Tensor]:
    return [part for field in fields(of) if isinstance(part := getattr(of, field.name), Tensor)]


def plainly(student: Head, teacher: Head | None, **asked) -> Tensor:
    """The same from whole logits, by the plain formulas and autograd."""
    logits = student.logits()
    vocabulary, mask, weights = asked.get("vocabulary"), asked.get("mask"), asked.get("weights")
    total = logits.new_zeros(logits.shape[:-1])
    if teacher is not None:
        values = asked.get("divergence", Divergence())(logits, teacher.logits(), vocabulary=vocabulary)
        total = total + asked.get("soft", 1.0) * values
    if asked.get("labels") is not None:
        labels = asked["labels"] if mask is None else asked["labels"].masked_fill(~mask, 0)
        values = losses.cross_entropy(
            logits[..., :vocabulary], labels, label_smoothing=asked.get("label_smoothing", 0.0)
        )
        total = total + asked.get("hard", 1.0) * values
    if weights is not None:
        total = total * weights
    return losses.token_mean(total, mask)[0]


def same(student: Head, teacher: Head | None, *, rtol: float = 1e-9, chunk_bytes: int = 300, **asked) -> None:
    """Value and every gradient equal those of the plain formula."""
    ours, theirs = leaves(student), leaves(student)
    found = projected_loss(ours, teacher, chunk_bytes=chunk_bytes, **asked)
    expected = plainly(theirs, teacher, **asked)
    torch.testing.assert_close(found.loss, expected.to(found.loss.dtype), rtol=rtol, atol=rtol * 1e-3)
    # Not one: what reaches a loss from above is the engine's to choose.
    (3 * found.loss).backward()
    (3 * expected).backward()
    for one, other in zip(tensors(ours), tensors(theirs), strict=True):
        scale = other.grad.abs().max().item()
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=max(rtol * scale, 1e-300))


@every
@pytest.mark.parametrize("parts", ["", "bias", "lora", "bias lora"])
def test_every_divergence_equals_its_plain_formula(divergence, parts):
    # Seven tokens in chunks of at most three.
    same(head(0, 7, parts=parts), head(1, 7, width=5, parts=parts), divergence=divergence)


@every
def test_beside_labels_with_weights_and_a_mask(divergence):
    labels = torch.arange(8).view(2, 4)
    mask = torch.tensor([[1, 1, 0, 1], [0, 1, 1, 0]]).bool()
    weights = torch.linspace(0.2, 2.0, 8, dtype=torch.float64).view(2, 4)
    asked = {"labels": labels, "label_smoothing": 0.1, "soft": 0.7, "hard": 0.4}
    student, teacher = head(0, 2, 4, parts="bias lora"), head(1, 2, 4, width=3)
    same(student, teacher, divergence=divergence, mask=mask, weights=weights, **asked)
    found = projected_loss(student, teacher, divergence=divergence, mask=mask, **asked)
    assert found.tokens == 5
    assert (found.divergence[~mask] == 0).all()
    logits = student.logits()
    torch.testing.assert_close(found.divergence[mask], divergence(logits, teacher.logits())[mask])
    expected = losses.cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(found.cross_entropy[mask], expected[mask])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_labels_alone(smoothing):
    same(head(0, 7, parts="bias"), None, labels=torch.arange(7), label_smoothing=smoothing)
    same(head(0, 7), None, labels=torch.arange(7) % 5, label_smoothing=smoothing, vocabulary=9)


@every
def test_vocabularies_padded_to_other_sizes(divergence):
    labels = torch.arange(7)
    for own, other in ((9, 12), (12, 9), (12, 12)):
        student, teacher = head(0, 7, vocabulary=own, parts="bias lora"), head(1, 7, vocabulary=other)
        same(student, teacher, divergence=divergence, vocabulary=9)
        same(student, teacher, divergence=divergence, vocabulary=8, labels=labels, label_smoothing=0.1)
        forward, reverse = divergence.directions
        if (other > own and forward) or (own > other and reverse):
            with pytest.raises(ValueError, match="as vocabulary"):
                projected_loss(student, teacher, divergence=divergence)
        else:
            same(student, teacher, divergence=divergence, labels=labels, label_smoothing=0.1)


@every
def test_gradients_by_differences(divergence):
    student, teacher, step = leaves(head(0, 4, width=3, parts="bias lora")), head(1, 4, width=3), 1e-6

    def loss() -> Tensor:
        asked = {"divergence": divergence, "labels": torch.arange(4), "chunk_bytes": 200}
        return projected_loss(student, teacher, **asked).loss

    loss().backward()
    for part in tensors(student):
        values, slope = part.data.view(-1), torch.empty(part.numel(), dtype=torch.float64)
        for place in range(part.numel()):
            at = values[place].item()
            values[place] = at + step
            above = loss().item()
            values[place] = at - step
            slope[place] = (above - loss().item()) / (2 * step)
            values[place] = at
        torch.testing.assert_close(part.grad.view(-1), slope, rtol=1e-5, atol=1e-7)


@every
def test_chunks_micro_batches_and_padding_change_nothing(divergence):
    student, teacher = head(0, 3, 4), head(1, 3, 4)
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [0, 1, 1, 0]]).bool()
    whole = projected_loss(student, teacher, divergence=divergence, mask=mask)
    for chunk_bytes in (1, 100, 400, 1 << 30):
        again = projected_loss(student, teacher, divergence=divergence, mask=mask, chunk_bytes=chunk_bytes)
        torch.testing.assert_close(again.loss, whole.loss)

    def rows(of: Head, part: slice) -> Head:
        return replace(of, hidden=of.hidden[part])

    parts = [
        projected_loss(rows(student, p), rows(teacher, p), divergence=divergence, mask=mask[p])
        for p in (slice(0, 1), slice(1, 3))
    ]
    assert sum(part.tokens for part in parts) == whole.tokens
    torch.testing.assert_close(sum(part.loss * part.tokens for part in parts) / whole.tokens, whole.loss)
    short = [replace(one, hidden=one.hidden[:, :3]) for one in (student, teacher)]
    torch.testing.assert_close(projected_loss(*short, divergence=divergence, mask=mask[:, :3]).loss, whole.loss)


@every
def test_zero_at_equality(divergence):
    teacher = head(0, 5, parts="bias")
    student = leaves(teacher)
    found = projected_loss(student, teacher, divergence=divergence)
    assert found.loss.item() == pytest.approx(0.0, abs=1e-12)
    found.loss.backward()
    # The total variation and the sorted distance have a kink there, where 0 is one of the gradients.
    assert all(part.grad.abs().max() < 1e-9 for part in tensors(student))


def test_nothing_that_counts_is_a_zero_with_a_graph():
    for mask in (torch.zeros(3, 2, dtype=torch.bool), None):
        shape = (3, 2) if mask is not None else (0,)
        student = leaves(head(0, *shape, parts="bias lora"))
        found = projected_loss(student, head(1, *shape), labels=torch.zeros(shape, dtype=torch.int64), mask=mask)
        assert (found.loss.item(), found.tokens) == (0.0, 0)
        found.loss.backward()
        assert all((part.grad == 0).all() for part in tensors(student))


def test_a_tied_matrix_gets_the_gradients_of_both_its_uses():
    table = torch.nn.Embedding(VOCABULARY, 6, dtype=torch.float64)
    tokens, teacher = torch.arange(5), head(1, 5)
    for loss in (
        projected_loss(Head(table(tokens).tanh(), table.weight), teacher, chunk_bytes=200).loss,
        plainly(Head(table(tokens).tanh(), table.weight), teacher),
    ):
        loss.backward()
    assert table.weight.grad is not None
    both, table.weight.grad = table.weight.grad, None
    plainly(Head(table(tokens).tanh(), table.weight), teacher).backward()
    torch.testing.assert_close(both, 2 * table.weight.grad)


def test_only_what_wants_a_gradient_gets_one():
    student = head(0, 5, parts="lora")
    student.up.requires_grad_()
    projected_loss(student, head(1, 5)).loss.backward()
    assert student.up.grad is not None
    assert (student.hidden.grad, student.weight.grad, student.down.grad) == (None, None, None)
    with torch.no_grad():
        assert not projected_loss(student, head(1, 5)).loss.requires_grad
    assert not projected_loss(student, leaves(head(1, 5))).divergence.requires_grad


@every
def test_single_precision_errs_by_a_hundred_thousandth(divergence):
    same(
        head(0, 40, width=16, vocabulary=500, parts="bias", dtype=torch.float32),
        head(1, 40, width=24, vocabulary=500, dtype=torch.float32),
        divergence=divergence,
        labels=torch.arange(40),
        chunk_bytes=30_000,
        rtol=1e-5,
    )


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_raised_before_the_softmax(divergence, dtype):
    student, teacher = (head(n, 20, vocabulary=300, parts="bias lora", dtype=dtype) for n in (0, 1))
    ours, exact = leaves(student), leaves(Head(*(part.double() for part in tensors(student)), scaling=0.7))
    found = projected_loss(ours, teacher, divergence=divergence, chunk_bytes=5000)
    expected = plainly(exact, Head(*(part.double() for part in tensors(teacher)), scaling=0.7), divergence=divergence)
    assert found.loss.dtype == torch.float32
    assert found.loss.item() == pytest.approx(expected.item(), rel=1e-4)
    found.loss.backward()
    expected.backward()
    for one, other in zip(tensors(ours), tensors(exact), strict=True):
        assert one.grad.dtype == dtype
        assert (one.grad.double() - other.grad).norm() <= 0.01 * other.grad.norm()


def test_autocast_does_not_round_the_logits():
    student, teacher = head(0, 5, dtype=torch.float32), head(1, 5, dtype=torch.float32)
    plain = projected_loss(student, teacher).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert projected_loss(student, teacher).loss.item() == plain.item()


@every
def test_extreme_logits_stay_finite(divergence):
    student = leaves(Head(torch.tensor([[1e4], [-1e4]]), torch.tensor([[1.0], [-1.0], [0.5]])))
    teacher = Head(torch.tensor([[-1e4], [-1e4]]), torch.tensor([[1.0], [-1.0], [0.5]]))
    found = projected_loss(student, teacher, divergence=divergence, labels=torch.tensor([1, 1]))
    assert found.loss.isfinite()
    found.loss.backward()
    assert all(part.grad.isfinite().all() for part in tensors(student))
    plain = divergence(student.logits(), teacher.logits())
    torch.testing.assert_close(found.divergence, plain.detach(), rtol=1e-4, atol=1e-6)


def test_what_is_no_number_is_not_hidden():
    student = head(0, 5, parts="bias")
    student.hidden[2, 1] = float("nan")
    for divergence in EVERY:
        assert projected_loss(student, head(1, 5), divergence=divergence).divergence.isnan().tolist() == [
            False, False, True, False, False,
        ]  # fmt: skip


def test_gradients_are_given_away_once():
    student = leaves(head(0, 5))
    loss = projected_loss(student, head(1, 5)).loss
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once"):
        loss.backward()


@pytest.mark.parametrize(
    "call",
    [
        lambda: projected_loss(head(0, 5)),
        lambda: projected_loss(head(0, 5), head(1, 4)),
        lambda: projected_loss(head(0, 5), head(1, 5), labels=torch.zeros(4, dtype=torch.int64)),
        lambda: projected_loss(head(0, 5), head(1, 5), mask=torch.ones(4, dtype=torch.bool)),
        lambda: projected_loss(head(0, 5), head(1, 5), mask=torch.ones(5)),
        lambda: projected_loss(head(0, 5), head(1, 5), weights=torch.ones(1)),
        lambda: projected_loss(head(0, 5), head(1, 5), vocabulary=12),
        lambda: projected_loss(head(0, 5), labels=torch.zeros(5, dtype=torch.int64), vocabulary=12),
        lambda: projected_loss(head(0, 5), labels=torch.zeros(5, dtype=torch.int64), label_smoothing=1.0),
        lambda: Head(torch.zeros(5, 3), torch.zeros(4, 2)),
        lambda: Head(torch.zeros(5, 3), torch.zeros(4, 3), bias=torch.zeros(3)),
        lambda: Head(torch.zeros(5, 3), torch.zeros(4, 3), down=torch.zeros(2, 3)),
        lambda: Head(torch.zeros(5, 3), torch.zeros(4, 3), down=torch.zeros(2, 3), up=torch.zeros(4, 3)),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(ValueError):
        call()
