from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from tutelage import losses


def logits(seed: int, *shape: int) -> torch.Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(0, 10_000), st.floats(0.5, 8.0))
@settings(max_examples=20, deadline=None)
def test_both_are_pearson_correlations(seed, temperature):
    student, teacher = logits(seed, 6, 4), logits(seed + 1, 6, 4)
    p, q = (teacher / temperature).softmax(-1), (student / temperature).softmax(-1)
    rows = torch.stack([torch.corrcoef(torch.stack([p[i], q[i]]))[0, 1] for i in range(6)])
    columns = torch.stack([torch.corrcoef(torch.stack([p[:, c], q[:, c]]))[0, 1] for c in range(4)])
    inter = losses.interclass_correlation(student, teacher, temperature=temperature)
    torch.testing.assert_close(inter, temperature**2 * (1 - rows))
    intra = losses.intraclass_correlation(student, teacher, temperature=temperature, scale=False)
    torch.testing.assert_close(intra, 1 - columns.mean())


@pytest.mark.parametrize("loss", [losses.interclass_correlation, losses.intraclass_correlation])
def test_gradients_equality_and_shapes(loss):
    student, teacher = logits(0, 4, 3).requires_grad_(), logits(1, 4, 3).requires_grad_()
    assert gradcheck(loss, (student, teacher))
    assert loss(teacher, teacher).abs().max() < 1e-12
    with pytest.raises(ValueError, match="one shape"):
        loss(student, teacher[:, :2])


def test_a_constant_side_has_no_correlation_and_no_nan():
    student = torch.zeros(4, 3, requires_grad=True)
    value = losses.interclass_correlation(student, logits(0, 4, 3).float())
    (value.sum() + losses.intraclass_correlation(student, logits(0, 4, 3).float())).backward()
    assert value.tolist() == [1.0] * 4
    assert student.grad.isfinite().all()
