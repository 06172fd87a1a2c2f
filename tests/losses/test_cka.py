from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from tutelage.losses import linear_cka


def features(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_equal_features_and_what_it_does_not_see():
    x, y = features(0, 20, 6), features(1, 20, 4)
    rotation = torch.linalg.qr(features(2, 6, 6))[0]
    assert linear_cka(x, x).item() == pytest.approx(1.0)
    torch.testing.assert_close(linear_cka(-3.0 * x @ rotation + 5.0, y), linear_cka(x, y))
    torch.testing.assert_close(linear_cka(x, y), linear_cka(y, x))
    assert 0 < linear_cka(x, y) < 1


def test_it_is_the_papers_formula():
    x, y = features(0, 20, 2, 3), features(1, 20, 4)
    a, b = (side.flatten(1) - side.flatten(1).mean(0) for side in (x, y))
    by_hand = torch.linalg.norm(b.T @ a) ** 2 / (torch.linalg.norm(a.T @ a) * torch.linalg.norm(b.T @ b))
    torch.testing.assert_close(linear_cka(x, y), by_hand)
    assert gradcheck(lambda s: linear_cka(s, y), (x.requires_grad_(),))


def test_features_that_do_not_vary_are_like_nothing():
    assert linear_cka(torch.ones(5, 3), torch.rand(5, 2)).item() == pytest.approx(0.0, abs=1e-6)


def test_other_samples_are_refused():
    with pytest.raises(ValueError, match="same samples twice"):
        linear_cka(torch.rand(5, 3), torch.rand(4, 3))
