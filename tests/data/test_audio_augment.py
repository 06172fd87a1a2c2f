"""Augmentations of sound: what they do to each sample follows from its seed alone."""

from __future__ import annotations

import pytest
import torch

from tutelage.data.audio_augment import Roll, SpectrogramMask
from tutelage.data.batch import Batch
from tutelage.data.seeds import mix, uniform
from tutelage.recipe.errors import InputError

IDS = torch.arange(64)


def batch(*shape: int, epoch: int = 0) -> Batch:
    inputs = torch.rand(64, *shape, generator=torch.Generator().manual_seed(0)) + 1
    return Batch(inputs, IDS, IDS, mix(0, epoch, IDS))


@pytest.mark.parametrize("augmentation", [Roll(), SpectrogramMask(time=9, frequency=4)])
def test_a_sample_alone_is_seen_as_in_its_batch(augmentation) -> None:
    whole = batch(1, 8, 20)
    seen = augmentation(whole)
    assert not torch.equal(seen.inputs, whole.inputs)
    for i in (0, 17, 63):
        one = Batch(*(t[i : i + 1] for t in (whole.inputs, whole.labels, whole.ids, whole.seeds)))
        assert torch.equal(augmentation(one).inputs[0], seen.inputs[i])
    assert torch.equal(augmentation(whole).inputs, seen.inputs)
    assert not torch.equal(augmentation(batch(1, 8, 20, epoch=1)).inputs, seen.inputs)


@pytest.mark.parametrize("shape", [(1, 100), (1, 6, 100)])
def test_rolling_is_torch_roll_by_a_movement_in_range(shape: tuple[int, ...]) -> None:
    before = batch(*shape)
    after = Roll(fraction=0.25)(before).inputs
    moved = []
    for i in range(64):
        fits = [m for m in range(-25, 26) if torch.equal(before.inputs[i].roll(m, -1), after[i])]
        assert len(fits) == 1
        moved += fits
    assert min(moved) < -15
    assert max(moved) > 15


def test_both_masks_follow_the_same_pair_of_numbers() -> None:
    before = batch(2, 10, 40)
    after = SpectrogramMask(time=16, frequency=5, value=-1.0)(before).inputs
    u, v = uniform(before.seeds, 0), uniform(before.seeds, 1)
    for i in range(64):
        expected = before.inputs[i].clone()
        width, height = int(u[i] * 16), int(u[i] * 5)
        left, low = int(v[i] * (40 - width)), int(v[i] * (10 - height))
        expected[:, :, left : left + width] = -1.0
        expected[:, low : low + height, :] = -1.0
        assert torch.equal(after[i], expected)


def test_masks_of_no_width_change_nothing() -> None:
    before = batch(1, 8, 20)
    assert torch.equal(SpectrogramMask(time=0, frequency=0)(before).inputs, before.inputs)


def test_what_is_no_spectrogram_is_refused() -> None:
    with pytest.raises(InputError, match="features: log-mel"):
        SpectrogramMask(time=3, frequency=3)(batch(1, 100))
    with pytest.raises(InputError, match="do not fit into spectrograms of 20 frames and 8 bins"):
        SpectrogramMask()(batch(1, 8, 20))
