"""Where TRL holds the same quantity, it is the same number with the same gradient."""

from __future__ import annotations

import pytest
import torch

from tutelage import losses
from tutelage.losses import Divergence, Head, projected_loss

BETAS = [0.0, 0.1, 0.5, 0.9, 1.0]


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def generalized_jsd():
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
        from trl.experimental.gkd.gkd_trainer import GKDTrainer

    return GKDTrainer.generalized_jsd_loss


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_generalised_jsd_over_logits(generalized_jsd, beta, temperature):
    student, teacher = 2 * normal(0, 2, 5, 30), 2 * normal(1, 2, 5, 30)
    mask = torch.tensor([[1, 1, 0, 1, 1], [0, 1, 1, 0, 0]]).bool()
    labels = torch.zeros(2, 5, dtype=torch.int64).masked_fill(~mask, -100)
    ours, theirs = student.clone().requires_grad_(), student.clone().requires_grad_()
    # TRL tempers both sides and leaves the square of the temperature out.
    divergence = Divergence("jsd", beta=beta, temperature=temperature, scale=False)
    value, count = losses.token_mean(divergence(ours, teacher), mask)
    expected = generalized_jsd(theirs, teacher, labels=labels, beta=beta, temperature=temperature)
    torch.testing.assert_close(value, expected)
    assert count == 6
    value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("beta", BETAS)
def test_generalised_jsd_from_hidden_states(beta):
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    hidden, weight, bias = normal(0, 9, 6), normal(1, 40, 6), normal(2, 40)
    teacher = Head(normal(3, 9, 8), normal(4, 40, 8), normal(5, 40))
    ours, theirs = ([part.clone().requires_grad_() for part in (hidden, weight, bias)] for _ in range(2))
    found = projected_loss(
        Head(*ours), teacher, divergence=Divergence("jsd", beta=beta, temperature=2.0, scale=False), chunk_bytes=600
    )
    expected = ChunkedDivergenceFunction.apply(*theirs, teacher.hidden, teacher.weight, teacher.bias, beta, 2.0)[0]
    torch.testing.assert_close(found.divergence, expected.detach(), rtol=1e-5, atol=1e-6)
    found.loss.backward()
    expected.mean().backward()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)
