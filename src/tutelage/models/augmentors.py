"""Augmentations that learn: differentiable changes of images, drawn from distributions whose parameters are trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn
from torch.nn import functional

from tutelage.data.batch import Batch, DataInfo
from tutelage.data.seeds import normal
from tutelage.models.freezing import freeze
from tutelage.models.inert import evaluating
from tutelage.models.outputs import first_tensor
from tutelage.models.shapes import image_shape
from tutelage.models.weights import load_weights
from tutelage.recipe.building import completed
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component
from tutelage.recipe.spec import Spec
from tutelage.recipe.types import Of


class Augmentor(nn.Module):
    """Changes that are drawn from learned Gaussians and squashed into ranges.

    Of every number, μ + softplus(ρ) ε with ε from a standard Gaussian goes through tanh, times its range. μ and ρ begin
    at 0, a spread of ln 2.

    Args:
        ranges: The largest size of each number; 0 switches it off.
        shape: ``(channels, height, width)`` of the images.
        per_image: Let a small network choose μ and ρ for each image, instead of one pair for all.

    Source: arXiv:2305.14890 (section 3).
    """

    ranges: Tensor

    def __init__(self, ranges: Sequence[float], shape: tuple[int, int, int], *, per_image: bool = False) -> None:
        super().__init__()
        self.register_buffer("ranges", torch.tensor(ranges), persistent=False)
        self.chosen = nn.Parameter(torch.zeros(2, len(ranges)))
        self.net: nn.Module | None = None
        if per_image:
            last = nn.Linear(32, 2 * len(ranges))
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.net = nn.Sequential(
                nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * shape[0], 32), nn.ReLU(), last
            )

    def draw(self, batch: Batch) -> Tensor:
        """``[batch, numbers]``: each within its range, the same for the same seeds and parameters."""
        chosen = self.chosen.expand(len(batch), -1, -1)
        if self.net is not None:
            chosen = chosen + self.net(batch.inputs).unflatten(-1, self.chosen.shape)
        centre, spread = chosen.unbind(1)
        noise = normal(batch.seeds, 0, (len(self.ranges),)).to(centre)
        return self.ranges * torch.tanh(centre + functional.softplus(spread) * noise)

    @property
    def spread(self) -> Tensor:
        """Mean spread of the numbers that are not switched off, before squashing; of the pair for all images."""
        return functional.softplus(self.chosen[1])[self.ranges != 0].mean()

    def forward(self, batch: Batch) -> Batch:
        """The batch with changed inputs, differentiable with respect to what is learned."""
        raise NotImplementedError(f"{type(self).__name__} changes nothing")


@component("augmentor", "affine")
class Affine(Augmentor):
    """Move, turn, scale and shear each image; what comes in from outside is 0.

    Args:
        data: What it is built for.
        translate: Largest movement along either axis, in pixels.
        rotate: Largest turn, in degrees.
        scale: Largest enlargement, as a share; shrinking goes as far the other way.
        shear: Largest shear, in degrees.
        per_image: Let a small network choose for each image, instead of one distribution for all; less stable.
    """

    def __init__(
        self,
        data: DataInfo,
        /,
        *,
        translate: Annotated[float, Ge(0)] = 2.0,
        rotate: Annotated[float, Ge(0), Lt(180)] = 15.0,
        scale: Annotated[float, Ge(0)] = 0.1,
        shear: Annotated[float, Ge(0), Lt(90)] = 5.0,
        per_image: bool = False,
    ) -> None:
        shape = image_shape(data, "affine")
        turn = [math.radians(rotate), math.log1p(scale), math.radians(shear)]
        super().__init__([translate, translate, *turn], shape, per_image=per_image)

    def forward(self, batch: Batch) -> Batch:
        """Sample ``[batch, channels, height, width]`` between the four nearest pixels."""
        return batch.with_(inputs=transformed(batch.inputs, *self.draw(batch).unbind(1)))


@component("augmentor", "translate")
class Translate(Affine):
    """Move each image; what comes in from outside is 0.

    Args:
        data: What it is built for.
        pixels: Largest movement along either axis.
        per_image: Let a small network choose for each image, instead of one distribution for all; less stable.
    """

    def __init__(self, data: DataInfo, /, *, pixels: Annotated[float, Ge(0)] = 2.0, per_image: bool = False) -> None:
        super().__init__(data, translate=pixels, rotate=0.0, scale=0.0, shear=0.0, per_image=per_image)


@component("augmentor", "color")
class Color(Augmentor):
    """Change brightness and contrast of each image, and the balance of its channels where it has several.

    Args:
        data: What it is built for.
        brightness: The most that is added to every pixel, in the inputs' unit.
        contrast: Largest factor on the distances from the image's mean, as a share; down as far as up.
        balance: Largest factor on single channels, likewise.
        per_image: Let a small network choose for each image, instead of one distribution for all.
    """

    def __init__(
        self,
        data: DataInfo,
        /,
        *,
        brightness: Annotated[float, Ge(0)] = 0.2,
        contrast: Annotated[float, Ge(0)] = 0.3,
        balance: Annotated[float, Ge(0)] = 0.2,
        per_image: bool = False,
    ) -> None:
        shape = image_shape(data, "color")
        channels = [math.log1p(balance)] * shape[0] if shape[0] > 1 else []
        super().__init__([brightness, math.log1p(contrast), *channels], shape, per_image=per_image)

    def forward(self, batch: Batch) -> Batch:
        """Change ``[batch, channels, height, width]``."""
        drawn = self.draw(batch)[:, :, None, None, None]
        mean = batch.inputs.mean((1, 2, 3), keepdim=True)
        changed = (batch.inputs - mean) * drawn[:, 1].exp() + mean + drawn[:, 0]
        return batch.with_(inputs=changed * drawn[:, 2:, 0].exp() if drawn.shape[1] > 2 else changed)


@component("augmentor", "latent")
class Latent(Augmentor):
    """Move each image in the latent space of a frozen autoencoder: decode what was encoded and shifted.

    Args:
        data: What it is built for.
        autoencoder: Your own ``package.module:Class`` with ``encode`` and ``decode``, and its ``weights``. What it
            encodes may have any shape; of several tensors, such as means and variances, the first counts.
        reach: Largest shift of each latent number.
        blend: Share of the original in the result.
        per_image: Let a small network choose for each image, instead of one distribution for all.

    Raises:
        InputError: The autoencoder cannot encode or decode, or gives images of another shape.
    """

    def __init__(
        self,
        data: DataInfo,
        /,
        *,
        autoencoder: Annotated[Any, Of("model")],
        reach: Annotated[float, Gt(0)] = 1.0,
        blend: Annotated[float, Ge(0), Lt(1)] = 0.0,
        per_image: bool = False,
    ) -> None:
        shape = image_shape(data, "latent")
        model = completed(autoencoder, data)
        weights = autoencoder.extras.get("weights") if isinstance(autoencoder, Spec) else None
        lacking = [name for name in ("encode", "decode") if not callable(getattr(model, name, None))]
        if lacking or not isinstance(model, nn.Module):
            raise InputError(f"sampler.augmentor: a {type(model).__name__} has no '{', '.join(lacking)}' to go through")
        if isinstance(weights, Mapping):
            raise InputError("sampler.augmentor: an autoencoder is not trained here; name the file of its weights")
        if weights is not None:
            load_weights(model, weights)
        coder: Any = model
        example = torch.zeros(1, *shape)
        with evaluating(model), torch.no_grad():
            code = _first(coder.encode(example))
            decoded = _first(coder.decode(code))
        if decoded.shape != example.shape:
            raise InputError(
                f"sampler.augmentor: the autoencoder gives {list(decoded.shape[1:])} for images of {list(shape)}"
            )
        super().__init__([reach] * code.numel(), shape, per_image=per_image)
        self.blend = blend
        self.autoencoder = model
        if any(True for _ in model.parameters()):
            freeze(self.autoencoder, ["**"])

    def forward(self, batch: Batch) -> Batch:
        """Shift, decode and blend ``[batch, channels, height, width]``."""
        code = _first(self.autoencoder.encode(batch.inputs))  # type: ignore[operator]
        made = _first(self.autoencoder.decode(code + self.draw(batch).view_as(code)))  # type: ignore[operator]
        return batch.with_(inputs=torch.lerp(made, batch.inputs, self.blend))


def _first(value: Any) -> Tensor:
    found = first_tensor(value)
    if found is None:
        raise InputError(f"sampler.augmentor: the autoencoder gives a {type(value).__name__}, not a tensor")
    return found


def transformed(images: Tensor, right: Tensor, down: Tensor, turn: Tensor, scale: Tensor, shear: Tensor) -> Tensor:
    """Each image sheared, scaled, turned about its centre and moved, in this order; differentiable in all of it.

    Args:
        images: ``[batch, channels, height, width]``.
        right: ``[batch]`` pixels.
        down: ``[batch]`` pixels.
        turn: ``[batch]`` radians, clockwise as seen.
        scale: ``[batch]`` logarithms of factors.
        shear: ``[batch]`` radians: how far rows slide over each other.

    Returns:
        The same shape, interpolated between the four nearest pixels, with 0 around.
    """
    height, width = images.shape[2:]
    cos, sin, one, zero = turn.cos(), turn.sin(), torch.ones_like(turn), torch.zeros_like(turn)
    # Where each place of the result is taken from: the inverse of every change, in reverse order, in pixels.
    back = torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2) * (-scale).exp()[:, None, None]
    slide = torch.stack([torch.stack([one, -shear.tan()], -1), torch.stack([zero, one], -1)], -2)
    matrix = slide @ back
    origin = -(matrix @ torch.stack([right, down], -1)[..., None])
    # affine_grid measures either axis in halves of the image's side.
    half = images.new_tensor([width / 2, height / 2])
    matrix = matrix.to(images) * half / half[:, None]
    theta = torch.cat([matrix, origin.to(images) / half[:, None]], -1)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)
