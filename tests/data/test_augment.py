"""Augmentations: what they do to pixels, that they decide per sample, and that they refuse what is no image."""

from __future__ import annotations

import pytest
import torch

from tutelage.data.augment import Crop, Cutout, Flip, Noise, Shift
from tutelage.data.batch import Batch
from tutelage.data.loader import apply
from tutelage.data.seeds import integers, mix
from tutelage.recipe.errors import InputError

ALL = [Shift(pixels=2), Flip(), Crop(padding=2), Noise(), Cutout(size=3)]


def images(count: int = 400, channels: int = 3, height: int = 5, width: int = 7) -> Batch:
    ids = torch.arange(count)
    inputs = torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(0)) + 0.1
    return Batch(inputs, ids % 2, ids, mix(0, 0, ids))


def moved(image: torch.Tensor, top: int, left: int, fill: str) -> torch.Tensor:
    """The same by padding and slicing one image."""
    _, height, width = image.shape
    pad = max(abs(top), abs(left)) + 1
    mode = {"zero": "constant", "edge": "replicate", "reflect": "reflect"}[fill]
    padded = torch.nn.functional.pad(image[None], (pad,) * 4, mode=mode)[0]
    return padded[:, pad + top : pad + top + height, pad + left : pad + left + width]


@pytest.mark.parametrize(
    ("augmentation", "reach"),
    [
        (Shift(pixels=2), 2),
        (Shift(pixels=2, fill="edge"), 2),
        (Crop(padding=3), 3),
        (Crop(padding=3, fill="reflect"), 3),
        (Crop(padding=3, fill="edge"), 3),
    ],
)
def test_moving_equals_padding_and_slicing(augmentation, reach: int) -> None:
    batch = images(50)
    top, left = integers(batch.seeds, -reach, reach + 1, 0, (2,)).unbind(1)
    out = augmentation(batch).inputs
    for i in range(50):
        torch.testing.assert_close(out[i], moved(batch.inputs[i], int(top[i]), int(left[i]), augmentation.fill))


def test_a_shift_makes_all_movements_equally_often() -> None:
    size = 9
    spot = torch.zeros(4500, 1, size, size)
    spot[:, :, 4, 4] = 1
    ids = torch.arange(4500)
    out = Shift(pixels=1)(Batch(spot, ids, ids, mix(0, 0, ids))).inputs.sum(0)[0]
    assert int(out.sum()) == 4500
    assert bool((out[3:6, 3:6] > 400).all())


def test_a_shift_of_nothing_is_the_batch() -> None:
    batch = images(3)
    assert Shift(pixels=0)(batch) is batch


def test_flip_mirrors_the_share_it_is_told() -> None:
    batch = images()
    out = Flip(p=0.25)(batch).inputs
    mirrored = (out == batch.inputs.flip(3)).flatten(1).all(1)
    untouched = (out == batch.inputs).flatten(1).all(1)
    assert bool((mirrored ^ untouched).all())
    assert 60 <= int(mirrored.sum()) <= 140
    assert torch.equal(Flip(p=1.0)(batch).inputs, batch.inputs.flip(3))
    assert torch.equal(Flip(p=0.0)(batch).inputs, batch.inputs)


def test_noise_has_its_deviation_and_takes_any_inputs() -> None:
    batch = images(200)
    added = Noise(std=0.5)(batch).inputs - batch.inputs
    assert abs(float(added.std()) - 0.5) < 0.01
    assert abs(float(added.mean())) < 0.02
    table = Noise(std=0.5)(batch.with_(inputs=torch.zeros(200, 4)))
    assert table.inputs.std(0).min() > 0.4


def test_cutout_blanks_one_square_around_any_centre() -> None:
    batch = images(600, 2, 8, 8)
    out = Cutout(size=3, value=-1.0)(batch).inputs
    blank = out == -1.0
    assert torch.equal(blank[:, 0], blank[:, 1])
    assert torch.equal(out[~blank], batch.inputs[~blank])
    sizes = blank[:, 0].sum((1, 2))
    assert int(sizes.max()) == 9
    assert int(sizes.min()) == 4
    assert bool(blank[:, 0].any(0).all())
    kept = Cutout(size=3, value=-1.0, p=0.5)(batch).inputs != -1.0
    assert 240 <= int(kept.flatten(1).all(1).sum()) <= 360


@pytest.mark.parametrize("augmentation", ALL, ids=lambda a: type(a).__name__)
def test_a_view_is_a_function_of_its_seed(augmentation) -> None:
    batch = images(40)
    view = apply(batch, [augmentation])
    assert view.inputs.shape == batch.inputs.shape
    assert torch.equal(view.inputs, apply(batch, [augmentation]).inputs)
    some = torch.tensor([31, 2, 17])
    piece = Batch(batch.inputs[some], batch.labels[some], batch.ids[some], batch.seeds[some])
    assert torch.equal(apply(piece, [augmentation]).inputs, view.inputs[some])
    other = apply(batch.with_(seeds=mix(0, 1, batch.ids)), [augmentation])
    assert not torch.equal(other.inputs, view.inputs)


@pytest.mark.parametrize("augmentation", ALL, ids=lambda a: type(a).__name__)
def test_the_callers_batch_and_generators_are_untouched(augmentation) -> None:
    batch, generator = images(10), torch.get_rng_state()
    before = batch.inputs.clone()
    augmentation(batch)
    assert torch.equal(batch.inputs, before)
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize("augmentation", [Shift(), Flip(), Crop(), Cutout()], ids=lambda a: type(a).__name__)
def test_tables_are_refused_where_images_are_needed(augmentation) -> None:
    batch = images(4).with_(inputs=torch.zeros(4, 9))
    with pytest.raises(InputError, match=rf"'{type(augmentation).__name__.lower()}' needs images.*\[4, 9\].*'noise'"):
        augmentation(batch)


@pytest.mark.parametrize("augmentation", [Shift(pixels=5), Crop(padding=5)])
def test_moving_an_image_out_of_itself_is_refused(augmentation) -> None:
    with pytest.raises(InputError, match="choose at most 4"):
        augmentation(images(4))
