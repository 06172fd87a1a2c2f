"""Mistakes that shipped elsewhere. Each test bears the rule that rules one of them out."""

from __future__ import annotations

import math

import pytest
import torch

from tutelage import losses

INF = float("inf")
SOFTENED = {
    "forward": lambda s, t, temperature: losses.kl_divergence(s, t, temperature=temperature),
    "reverse": lambda s, t, temperature: losses.kl_divergence(s, t, temperature=temperature, direction="reverse"),
    "jensen-shannon": lambda s, t, temperature: losses.jensen_shannon(s, t, temperature=temperature),
}
PER_SAMPLE = SOFTENED | {
    "total variation": lambda s, t, temperature: losses.total_variation(s, t, temperature=temperature),
    "ttm": lambda s, t, temperature: losses.ttm(s, t, exponent=1 / temperature),
    "wttm": lambda s, t, temperature: losses.wttm(s, t, exponent=1 / temperature),
    "decoupled": lambda s, t, temperature: losses.decoupled(s, t, t.argmax(-1), temperature=temperature),
    "correlation": lambda s, t, temperature: losses.interclass_correlation(s, t, temperature=temperature),
    "soft": lambda s, t, temperature: losses.soft_cross_entropy(s, losses.power_transform(t, 1 / temperature)),
    "hard": lambda s, t, temperature: losses.cross_entropy(s, t.argmax(-1), label_smoothing=0.1),
    "directions": lambda s, t, temperature: losses.top_directions(s.flatten(0, -2), t.flatten(0, -2), k=2).view(
        s.shape[:-1]
    ),
}


def logits(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("name", SOFTENED)
def test_the_soft_loss_keeps_its_squared_temperature_whatever_the_weights(name):
    student, teacher = logits(0, 4, 6).requires_grad_(), logits(1, 4, 6)

    def size_of_gradient(temperature: float) -> float:
        value = SOFTENED[name](student, teacher, temperature).mean()
        return torch.autograd.grad(value, student)[0].norm().item()

    # With T² the gradient tends to a constant as T grows; without it, it would fall a hundredfold here.
    assert size_of_gradient(1000.0) == pytest.approx(size_of_gradient(100.0), rel=0.05)
    if name != "jensen-shannon":
        # The limit itself: (student - teacher), both centred, over the number of classes and the batch.
        centred = [x - x.mean(-1, keepdim=True) for x in (student.detach(), teacher)]
        assert size_of_gradient(1000.0) == pytest.approx(((centred[0] - centred[1]) / 6 / 4).norm().item(), rel=0.01)


@pytest.mark.parametrize("name", PER_SAMPLE)
def test_the_softmax_runs_over_classes_for_samples_and_tokens_alike(name):
    student, teacher = logits(0, 3, 4, 6), logits(1, 3, 4, 6)
    tokens = PER_SAMPLE[name](student, teacher, 2.0)
    assert tokens.shape == (3, 4)
    samples = PER_SAMPLE[name](student.view(12, 6), teacher.view(12, 6), 2.0)
    torch.testing.assert_close(tokens.view(12), samples)
    one = PER_SAMPLE[name](student[1:2, 2], teacher[1:2, 2], 2.0)
    torch.testing.assert_close(one[0], tokens[1, 2])


@pytest.mark.parametrize("name", SOFTENED)
def test_the_temperature_reaches_the_loss(name):
    student, teacher = logits(0, 3, 6), logits(1, 3, 6)
    softened = SOFTENED[name](student / 4, teacher / 4, 1.0)
    torch.testing.assert_close(SOFTENED[name](student, teacher, 4.0), 16 * softened)
    assert (SOFTENED[name](student, teacher, 4.0) - SOFTENED[name](student, teacher, 1.0)).abs().min() > 1e-3


@pytest.mark.parametrize("name", PER_SAMPLE)
def test_a_mean_over_valid_tokens_does_not_depend_on_micro_batches_padding_or_chunks(name):
    student, teacher = logits(0, 4, 5, 6).requires_grad_(), logits(1, 4, 5, 6)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]).bool()
    loss, count = PER_SAMPLE[name], mask.sum()

    whole = losses.mask_mean(loss(student, teacher, 2.0), mask)
    gradient = torch.autograd.grad(whole, student)[0]

    def split(parts: list[tuple[slice, slice]]) -> torch.Tensor:
        values = [losses.mask_mean(loss(student[p], teacher[p], 2.0), mask[p], count) for p in parts]
        return torch.stack(values).sum()

    everything = slice(None)
    micro_batches = [(slice(0, 1), everything), (slice(1, 4), everything)]
    chunks = [(everything, slice(0, 2)), (everything, slice(2, 3)), (everything, slice(3, 5))]
    for value in (split(micro_batches), split(chunks)):
        torch.testing.assert_close(value, whole)
        torch.testing.assert_close(torch.autograd.grad(value, student)[0], gradient)

    packed = loss(student[mask][None], teacher[mask][None], 2.0).mean()
    if name != "wttm":
        torch.testing.assert_close(packed, whole)


def test_a_divergence_is_never_divided_by_the_vocabulary():
    p, q = torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[0.2, 0.5, 0.3]])
    for copies in (1, 10, 1000):
        # Every entry split into equal copies: the divergence stays.
        student, teacher = ((x / copies).repeat_interleave(copies, dim=-1).log() for x in (q, p))
        assert losses.kl_divergence(student, teacher).item() == pytest.approx(0.583815, rel=1e-4)


@pytest.mark.parametrize("name", PER_SAMPLE)
def test_an_all_masked_batch_gives_a_zero_that_still_has_a_graph(name):
    student, teacher = logits(0, 2, 3, 6).requires_grad_(), logits(1, 2, 3, 6)
    mask = torch.zeros(2, 3, dtype=torch.bool)
    for count in (None, 0, torch.tensor(0), 17):
        value = losses.mask_mean(PER_SAMPLE[name](student, teacher, 2.0), mask, count)
        assert value.item() == 0.0
        (gradient,) = torch.autograd.grad(value, student)
        assert (gradient == 0).all()


def test_the_forward_divergence_includes_the_teachers_entropy_so_it_reaches_zero_at_equality():
    teacher = logits(0, 5, 7)
    assert losses.entropy(teacher).min() > 0.1
    for temperature in (1.0, 4.0):
        value = losses.kl_divergence(teacher + 3.0, teacher, temperature=temperature)
        torch.testing.assert_close(value, torch.zeros(5, dtype=torch.float64), atol=1e-12, rtol=0)
    student = logits(1, 5, 7)
    cross = losses.soft_cross_entropy(student, teacher.softmax(-1))
    torch.testing.assert_close(losses.kl_divergence(student, teacher), cross - losses.entropy(teacher))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", PER_SAMPLE)
def test_half_precision_logits_are_raised_before_the_softmax_and_gradients_err_by_one_percent_at_most(name, dtype):
    student, teacher = logits(0, 2, 3, 4000, dtype=dtype), logits(1, 2, 3, 4000, dtype=dtype)

    def value_and_gradient(at: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        at = at.clone().requires_grad_()
        value = PER_SAMPLE[name](at, target, 2.0)
        return value.detach(), torch.autograd.grad(value.sum(), at)[0].double()

    value, gradient = value_and_gradient(student, teacher)
    exact_value, exact = value_and_gradient(student.double(), teacher.double())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), exact_value, rtol=1e-4, atol=1e-5)
    assert (gradient - exact).norm() <= 0.01 * exact.norm()


@pytest.mark.parametrize("name", [*SOFTENED, "total variation", "ttm", "wttm"])
def test_a_narrower_vocabulary_is_padded_with_minus_infinity_and_never_with_zeros(name):
    student, teacher = logits(0, 3, 9), logits(1, 3, 6)
    wide = student.clone().requires_grad_()
    value = PER_SAMPLE[name](wide, losses.pad_logits(teacher, 9), 2.0)
    if name == "reverse":
        # The student gives probability to entries that the teacher cannot produce; only cutting them makes sense.
        assert (value == INF).all()
        value = PER_SAMPLE[name](losses.pad_logits(wide, 9, valid=6), losses.pad_logits(teacher, 9), 2.0)
    assert value.isfinite().all()
    assert torch.autograd.grad(value.sum(), wide)[0].isfinite().all()
    p = (teacher / 2).softmax(-1)
    if name == "forward":
        q = (student / 2).softmax(-1)[:, :6]
        torch.testing.assert_close(value.detach(), 4 * (p * (p / q).log()).sum(-1))
    zeros = PER_SAMPLE[name](student, torch.nn.functional.pad(teacher, (0, 3)), 2.0)
    assert (zeros - value).abs().min() > 1e-3


def test_vocabularies_of_different_sizes_are_refused_unless_padded():
    with pytest.raises(ValueError, match="pad_logits"):
        losses.kl_divergence(logits(0, 3, 9), logits(1, 3, 6))
    with pytest.raises(ValueError, match="widen the narrower"):
        losses.pad_logits(logits(0, 3, 9), 6)


def test_reductions_are_ours_and_not_a_library_default():
    student, teacher = logits(0, 8, 10), logits(1, 8, 10)
    library = torch.nn.functional.kl_div(student.log_softmax(-1), teacher.softmax(-1), reduction="batchmean")
    torch.testing.assert_close(losses.kl_divergence(student, teacher).mean(), library)


def test_weights_act_on_samples_because_nothing_is_averaged_before():
    student, teacher = logits(0, 3, 10).requires_grad_(), logits(1, 3, 10)
    weights = torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64)
    (weights * losses.kl_divergence(student, teacher)).sum().backward()
    size = student.grad.norm(dim=-1)
    assert size[1] == 0
    assert size[0] > 0
    assert math.isfinite(size[2])
