"""Mistakes that shipped elsewhere with language models. Each test bears the rule that rules one of them out.

Every rule holds for both forms of a loss: over logits, and from hidden states without any logits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tutelage import losses
from tutelage.engine.terms import Losses
from tutelage.losses import Divergence, Head, projected_loss

DIVERGENCES = [
    Divergence("forward-kl"),
    Divergence("reverse-kl"),
    Divergence("symmetric-kl", share=0.3),
    Divergence("jsd", beta=0.2),
    Divergence("skew-kl"),
    Divergence("skew-reverse-kl"),
    Divergence("total-variation"),
    Divergence("sorted"),
]
IN_NATS = DIVERGENCES[:6]
Form = Callable[..., tuple[Tensor, int]]


def over_logits(
    divergence: Divergence, student: Head, teacher: Head, mask: Tensor | None, **more
) -> tuple[Tensor, int]:
    more.pop("chunk_bytes", None)
    return losses.token_mean(divergence(student.logits(), teacher.logits(), **more), mask)


def from_hidden_states(
    divergence: Divergence, student: Head, teacher: Head, mask: Tensor | None, **more
) -> tuple[Tensor, int]:
    found = projected_loss(student, teacher, divergence=divergence, mask=mask, **more)
    return found.loss, found.tokens


both_forms = pytest.mark.parametrize("form", [over_logits, from_hidden_states])
every = pytest.mark.parametrize("divergence", DIVERGENCES, ids=lambda divergence: divergence.name)
in_nats = pytest.mark.parametrize("divergence", IN_NATS, ids=lambda divergence: divergence.name)


def head(seed: int, *shape: int, vocabulary: int = 12, dtype: torch.dtype = torch.float64, scale: float = 1.0) -> Head:
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randn(*size, 5, generator=generator, dtype=torch.float64) for size in (shape, (vocabulary,))]
    return Head(scale * parts[0].to(dtype), parts[1].to(dtype).requires_grad_(seed == 0))


def gradient(loss: Tensor, student: Head) -> Tensor:
    return torch.autograd.grad(loss, student.weight)[0]


@both_forms
@in_nats
def test_the_soft_loss_keeps_its_squared_temperature_and_the_temperature_reaches_the_loss(form, divergence):
    student, teacher = head(0, 3), head(1, 3)

    def found(temperature: float, scale: bool = True) -> tuple[Tensor, Tensor]:
        loss, _ = form(replace(divergence, temperature=temperature, scale=scale), student, teacher, None)
        return loss.detach(), gradient(loss, student)

    value, slope = found(4.0)
    torch.testing.assert_close(value, 16 * found(4.0, scale=False)[0])
    # The same as of logits that were tempered beforehand, and not the same as without a temperature.
    cooler = [replace(one, hidden=one.hidden / 4) for one in (student, teacher)]
    tempered = form(divergence, *cooler, None)[0]
    torch.testing.assert_close(value, 16 * tempered.detach())
    assert (value - found(1.0)[0]).abs() > 1e-3
    torch.testing.assert_close(slope, 16 * gradient(tempered, cooler[0]))
    # With T² the gradient's size tends to a constant as T grows; without it, it would fall a hundredfold here.
    near, far = found(100.0)[1].norm().item(), found(1000.0)[1].norm().item()
    assert far == pytest.approx(near, rel=0.05)


@both_forms
@every
def test_the_softmax_runs_over_the_vocabulary_whatever_the_other_dimensions_are(form, divergence):
    student, teacher = head(0, 2, 3), head(1, 2, 3)
    whole, count = form(divergence, student, teacher, None)
    flat = [replace(one, hidden=one.hidden.flatten(0, 1)) for one in (student, teacher)]
    assert count == 6
    torch.testing.assert_close(form(divergence, *flat, None)[0], whole)


@both_forms
@every
def test_the_mean_is_over_the_valid_tokens_of_the_whole_step_whatever_its_parts(form, divergence):
    """Micro-batches, ranks, padding and chunks, put together as the engine does by `Losses.over`."""
    student, teacher = head(0, 4, 5), head(1, 4, 5)
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]).bool()
    whole, count = form(divergence, student, teacher, mask)
    expected = gradient(whole, student)

    def parts(*slices: tuple[slice, slice]) -> list[Losses]:
        found = []
        for rows, places in slices:
            heads = [replace(one, hidden=one.hidden[rows, places]) for one in (student, teacher)]
            loss, tokens = form(divergence, *heads, mask[rows, places])
            found.append(Losses(transfer=loss).over(tokens))
        return found

    everything = slice(None)
    for split in (
        parts((slice(0, 1), everything), (slice(1, 4), everything)),
        parts(*((slice(row, row + 1), everything) for row in range(4))),
        parts((everything, slice(0, 2)), (everything, slice(2, 5))),
    ):
        assert sum(part.count or 0 for part in split) == count == 8
        total = sum(part.total() * (part.count or 0) for part in split) / count
        torch.testing.assert_close(total, whole)
        torch.testing.assert_close(gradient(total, student), expected)
    unequal = torch.stack([part.total() for part in parts((slice(0, 1), everything), (slice(1, 4), everything))]).mean()
    assert (unequal - whole).abs() > 1e-4
    padded = [
        replace(one, hidden=torch.nn.functional.pad(one.hidden, (0, 0, 0, 3), value=7.0)) for one in (student, teacher)
    ]
    torch.testing.assert_close(form(divergence, *padded, torch.nn.functional.pad(mask, (0, 3)))[0], whole)
    for chunk_bytes in (1, 200, 1 << 20):
        torch.testing.assert_close(form(divergence, student, teacher, mask, chunk_bytes=chunk_bytes)[0], whole)


@both_forms
def test_a_divergence_is_never_divided_by_the_vocabulary(form):
    student, teacher = head(0, 3), head(1, 3)
    value = form(Divergence(), student, teacher, None)[0]
    for copies in (2, 50):
        # Every entry split into equal copies: the divergence stays.
        wide = [replace(one, weight=one.weight.repeat_interleave(copies, 0)) for one in (student, teacher)]
        torch.testing.assert_close(form(Divergence(), *wide, None)[0], value)


@both_forms
@every
def test_the_first_response_token_counts_and_the_position_after_the_end_does_not(form, divergence):
    """Data and what a student wrote follow one rule, also where padding has the id of the end."""
    end = 9
    tokens = torch.tensor([[1, 2, 5, 6, end, end, end], [1, 2, 3, 7, end, end, end]])
    starts = torch.tensor([2, 3])
    from_data = losses.response_mask(tokens, starts, torch.tensor([5, 5]))
    written = losses.response_mask(tokens, starts, stop=[end])
    assert torch.equal(from_data, written)
    student, teacher = head(0, 2, 7), head(1, 2, 7)
    heads, masks = [], []
    for one in (student, teacher):
        said, _, mask = losses.shift(one.hidden, tokens, written)
        heads.append(replace(one, hidden=said))
        masks.append(mask)
    loss, count = form(divergence, *heads, masks[0])
    values = divergence(student.logits(), teacher.logits())
    # By hand: the last token of each prompt scores the first response token, the last one before the end scores the
    # end.
    by_hand = torch.cat([values[0, 1:4], values[1, 2:4]])
    assert count == 5
    torch.testing.assert_close(loss, by_hand.mean())
    places, _ = losses.scored(tokens, written)
    picked = [replace(one, hidden=one.hidden.flatten(0, 1)[places]) for one in (student, teacher)]
    torch.testing.assert_close(form(divergence, *picked, None)[0], loss)


@both_forms
@every
def test_an_all_masked_batch_gives_a_zero_that_still_has_a_graph(form, divergence):
    student, teacher = head(0, 2, 3), head(1, 2, 3)
    loss, count = form(divergence, student, teacher, torch.zeros(2, 3, dtype=torch.bool))
    assert (loss.item(), count) == (0.0, 0)
    assert (gradient(loss, student) == 0).all()


@both_forms
@every
def test_forward_kl_includes_the_teachers_entropy_so_that_all_reach_zero_at_equality(form, divergence):
    teacher = head(0, 3)
    assert losses.entropy(teacher.logits()).min() > 0.1
    for temperature in (1.0, 4.0):
        loss, _ = form(replace(divergence, temperature=temperature), teacher, teacher, None)
        assert loss.item() == pytest.approx(0.0, abs=1e-12)


@both_forms
@every
def test_half_precision_is_raised_before_the_softmax_and_gradients_err_by_one_percent_at_most(form, divergence):
    student, teacher = (head(seed, 16, vocabulary=3000, dtype=torch.bfloat16) for seed in (0, 1))
    precise = [
        replace(one, hidden=one.hidden.double(), weight=one.weight.detach().double().requires_grad_())
        for one in (student, teacher)
    ]
    loss, _ = form(divergence, student, teacher, None)
    exact, _ = form(divergence, *precise, None)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), exact, rtol=1e-4, atol=1e-5)
    expected = gradient(exact, precise[0])
    assert (gradient(loss, student).double() - expected).norm() <= 0.01 * expected.norm()


@both_forms
@every
def test_a_narrower_vocabulary_is_padded_with_minus_infinity_and_never_with_zeros(form, divergence):
    student, teacher = head(0, 4, vocabulary=12), head(1, 4, vocabulary=9)
    if divergence.directions[1]:
        # The student gives probability to entries that the teacher does not have: only cutting them makes sense.
        with pytest.raises(ValueError, match="as vocabulary"):
            form(divergence, student, teacher, None)
    else:
        loss, _ = form(divergence, student, teacher, None)
        wide = [losses.pad_logits(one.logits(), 12) for one in (student, teacher)]
        torch.testing.assert_close(loss, divergence(*wide).mean())
        zeros = divergence(wide[0], torch.nn.functional.pad(teacher.logits(), (0, 3))).mean()
        assert (zeros - loss).abs() > 1e-3
    loss, _ = form(divergence, student, teacher, None, vocabulary=9)
    torch.testing.assert_close(loss, divergence(student.logits()[..., :9], teacher.logits()).mean())
    assert (gradient(loss, student)[9:] == 0).all()
