"""Augmentations that learn: what they do to an image, their ranges, and that gradients reach what is learned."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tutelage.data.batch import Batch, DataInfo
from tutelage.models.augmentors import Affine, Color, Latent, Translate, transformed
from tutelage.models.weights import save_weights
from tutelage.recipe.errors import InputError
from tutelage.recipe.spec import Spec

INFO = DataInfo((3, 6, 8), 2, ("a", "b"), "")
IMAGES = torch.rand(5, 3, 6, 8, generator=torch.Generator().manual_seed(0))
BATCH = Batch(IMAGES, torch.zeros(5).long(), torch.arange(5), torch.arange(5) * 977 + 13)


def moved(images, right=0.0, down=0.0, turn=0.0, scale=0.0, shear=0.0):
    return transformed(images, *(torch.full((len(images),), value) for value in (right, down, turn, scale, shear)))


def test_nothing_changed_is_the_image_itself():
    assert torch.allclose(moved(IMAGES), IMAGES, atol=1e-6)


def test_whole_pixels_in_each_direction():
    made = moved(IMAGES, right=2.0, down=-1.0)
    assert torch.allclose(made[:, :, :-1, 2:], IMAGES[:, :, 1:, :-2], atol=1e-5)
    assert made[:, :, -1].abs().max() < 1e-5
    assert made[:, :, :, :2].abs().max() < 1e-5


def test_a_quarter_turn_of_a_square_and_half_a_turn_of_any():
    square = IMAGES[:, :, :, :6]
    assert torch.allclose(moved(square, turn=math.pi / 2), torch.rot90(square, -1, (2, 3)), atol=1e-5)
    assert torch.allclose(moved(IMAGES, turn=math.pi), IMAGES.flip(2, 3), atol=1e-5)


def test_twice_the_size_shows_the_middle_and_shear_keeps_the_centre_row():
    flat = torch.zeros(1, 1, 8, 8)
    flat[:, :, 2:6, 2:6] = 1.0
    assert moved(flat, scale=math.log(2.0))[:, :, 1:7, 1:7].min() == pytest.approx(1.0)
    line = torch.zeros(1, 1, 9, 9)
    line[:, :, :, 4] = 1.0
    made = moved(line, shear=math.pi / 4)
    assert made[0, 0, 4, 4] == pytest.approx(1.0, abs=1e-5)
    assert made[0, 0].argmax(-1).tolist() in ([*range(9)], [*range(9)][::-1])


@pytest.mark.parametrize("per_image", [False, True])
def test_draws_stay_in_their_ranges_and_replay_from_seeds(per_image):
    augmentor = Affine(INFO, translate=2.0, rotate=10.0, scale=0.5, shear=0.0, per_image=per_image)
    with torch.no_grad():
        augmentor.chosen[1] = 3.0
    many = BATCH.with_(
        inputs=IMAGES.repeat(100, 1, 1, 1), ids=torch.arange(500), seeds=torch.arange(500), labels=torch.zeros(500)
    )
    drawn = augmentor.draw(many)
    reach = torch.tensor([2.0, 2.0, math.radians(10), math.log(1.5), 0.0])
    assert (drawn.abs() <= reach + 1e-6).all()
    assert (drawn.abs().amax(0) > 0.9 * reach - 1e-9).all()
    few = Batch(*(field[:5] for field in (many.inputs, many.labels, many.ids, many.seeds)))
    # The small network sums batches of different sizes in another order.
    assert torch.allclose(drawn[:5], augmentor.draw(few), atol=1e-6)
    assert augmentor.spread.item() == pytest.approx(math.log1p(math.exp(3.0)))


def test_the_spread_is_ln_2_at_first():
    assert Translate(INFO, pixels=3.0).spread.item() == pytest.approx(math.log(2.0))


@pytest.mark.parametrize("make", [Affine, Translate, Color])
@pytest.mark.parametrize("per_image", [False, True])
def test_gradients_reach_what_is_learned(make, per_image):
    augmentor = make(INFO, per_image=per_image)
    augmentor(BATCH).inputs.square().sum().backward()
    active = augmentor.ranges != 0
    assert (augmentor.chosen.grad[:, active] != 0).all()
    assert all(p.grad is not None for p in augmentor.parameters())


def test_no_range_is_no_change():
    for augmentor in (
        Affine(INFO, translate=0.0, rotate=0.0, scale=0.0, shear=0.0),
        Color(INFO, brightness=0.0, contrast=0.0, balance=0.0),
    ):
        assert torch.allclose(augmentor(BATCH).inputs, IMAGES, atol=1e-6)


def test_colour_changes_the_mean_by_brightness_and_the_spread_by_contrast():
    augmentor = Color(DataInfo((1, 6, 8), 2, ("a", "b"), ""), brightness=0.2, contrast=0.5)
    grey = BATCH.with_(inputs=IMAGES[:, :1])
    drawn, made = augmentor.draw(grey), augmentor(grey).inputs
    assert drawn.shape == (5, 2)
    assert torch.allclose(made.mean((1, 2, 3)), grey.inputs.mean((1, 2, 3)) + drawn[:, 0], atol=1e-6)
    assert torch.allclose(made.std((1, 2, 3)), grey.inputs.std((1, 2, 3)) * drawn[:, 1].exp(), atol=1e-5)


class Halves(nn.Module):
    """Encodes an image as its left half, scaled, and says how sure it is; decodes it as two of them."""

    def __init__(self, data, /):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def encode(self, images):
        return self.scale * images[..., : images.shape[-1] // 2], torch.zeros(len(images))

    def decode(self, code):
        return torch.cat([code, code], -1) / self.scale


def test_shifts_in_the_latent_space_of_a_frozen_autoencoder():
    augmentor = Latent(INFO, autoencoder=Halves(INFO), reach=0.5)
    made = augmentor.train()(BATCH).inputs
    left, right = made.chunk(2, -1)
    assert torch.equal(left, right)
    apart = (left - IMAGES[..., :4]).abs()
    assert 0 < apart.max() <= 0.25 + 1e-6
    made.sum().backward()
    assert (augmentor.chosen.grad != 0).any()
    assert augmentor.autoencoder.scale.grad is None
    assert not augmentor.autoencoder.training
    half = Latent(INFO, autoencoder=Halves(INFO), reach=0.5, blend=0.5)
    assert torch.allclose(half(BATCH).inputs, (made + IMAGES) / 2, atol=1e-6)


def test_an_autoencoder_with_weights_named_in_a_recipe(tmp_path):
    autoencoder = Halves(INFO)
    with torch.no_grad():
        autoencoder.scale.fill_(4.0)
    save_weights(autoencoder, tmp_path, {})
    spec = Spec("model", f"{__name__}:Halves", {}, {"weights": str(tmp_path)})
    assert Latent(INFO, autoencoder=spec).autoencoder.scale.item() == 4.0


def test_what_is_no_autoencoder():
    with pytest.raises(InputError, match="no 'encode, decode'"):
        Latent(INFO, autoencoder=nn.Identity())
    wrong = Halves(INFO)
    wrong.decode = lambda code: code
    with pytest.raises(InputError, match=r"gives \[3, 6, 4\] for images of \[3, 6, 8\]"):
        Latent(INFO, autoencoder=wrong)


def test_samples_that_are_no_images():
    with pytest.raises(InputError, match="takes images"):
        Affine(DataInfo((5,), 2, ("a", "b"), ""))
