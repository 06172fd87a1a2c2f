"""A linear probe: sees what is linear, not how it is scaled."""

from __future__ import annotations

import pytest
import torch

from tutelage.measure.probe import linear_probe


def sample(seed: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    features = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return features, (features[:, 0] > 0).long()


def test_what_is_linear_is_read_and_what_is_not_is_not() -> None:
    train, test = sample(0, 400), sample(1, 400)
    assert linear_probe(*train, *test).value > 0.95
    around = [(features, (features.square().sum(1) > 3).long()) for features, _ in (train, test)]
    assert linear_probe(*around[0], *around[1]).value < 0.75


def test_scale_and_constants_do_not_count() -> None:
    (features, labels), (unseen, answers) = sample(0, 200), sample(1, 200)
    plain = linear_probe(features, labels, unseen, answers)
    moved = [torch.cat([5 + 1000 * part, torch.ones(200, 1)], 1) for part in (features, unseen)]
    assert linear_probe(moved[0], labels, moved[1], answers).value == pytest.approx(plain.value, abs=0.006)


def test_bad_samples_are_refused() -> None:
    features, labels = sample(0, 10)
    with pytest.raises(ValueError, match="10 and 9"):
        linear_probe(features, labels[:9], features, labels)
    with pytest.raises(ValueError, match="one class"):
        linear_probe(features, torch.zeros(10, dtype=torch.int64), features, labels)
