"""Generators for every size of image, and the ring that keeps what they made."""

from __future__ import annotations

import pytest
import torch

from tutelage.data.batch import DataInfo
from tutelage.models.generator import Encoder, Generator, ImageRing
from tutelage.recipe.errors import InputError


def info(*shape: int) -> DataInfo:
    return DataInfo(shape, 10, tuple(map(str, range(10))), "")


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 7, 10)], ids=str)
def test_images_have_the_data_s_shape_and_range(shape: tuple[int, ...]) -> None:
    made = Generator(12, info(*shape), width=8, hidden=5, normalize_latent=True, pixel_range=(-2.0, 3.0))
    images = made(10 * torch.randn(6, 12))
    assert images.shape == (6, *shape)
    assert images.min() >= -2
    assert images.max() <= 3
    mean, log_variance = Encoder(12, info(*shape), width=4)(images)
    assert mean.shape == log_variance.shape == (6, 12)


def test_starting_anew_changes_every_random_parameter() -> None:
    made = Generator(4, info(1, 8, 8), width=4)
    before = {name: value.clone() for name, value in made.named_parameters()}
    made.start_anew()
    weights = [name for name, value in before.items() if value.ndim > 1]
    assert weights
    assert all(not torch.equal(before[name], dict(made.named_parameters())[name]) for name in weights)


def test_tables_have_no_generator() -> None:
    with pytest.raises(InputError, match="takes images"):
        Generator(4, info(5))


def test_a_ring_holds_the_newest_batches_in_order() -> None:
    ring = ImageRing(10, 2, (1, 1, 1))
    for number in range(1, 13):
        ring.push(torch.full((2, 1, 1, 1), float(number)))
        assert len(ring) == min(number, 10)
    assert ring.batches()[:, 0, 0, 0, 0].tolist() == list(range(3, 13))
    again = ImageRing(10, 2, (1, 1, 1))
    again.load_state_dict(ring.state_dict())
    assert torch.equal(again.batches(), ring.batches())
    assert len(again) == 10


def test_a_ring_that_is_not_full_gives_only_what_it_has() -> None:
    ring = ImageRing(4, 3, (1, 1, 1))
    ring.push(torch.arange(1.0, 4.0).reshape(3, 1, 1, 1))
    assert set(ring.some(50).flatten().tolist()) == {1.0, 2.0, 3.0}
    assert ring.one().flatten().tolist() == [1.0, 2.0, 3.0]
    assert len(ring.batches()) == 1


def test_bad_rings_are_refused() -> None:
    ring = ImageRing(2, 3, (1, 2, 2))
    with pytest.raises(ValueError, match="nothing was pushed"):
        ring.one()
    with pytest.raises(ValueError, match="does not fit"):
        ring.push(torch.zeros(2, 1, 2, 2))
