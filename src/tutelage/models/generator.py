"""Small image generators, and what keeps the images that they made."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.models.shapes import image_shape

__all__ = ["Encoder", "Generator", "ImageRing"]


class Generator(nn.Module):
    """Latent vectors to images: a linear map to a quarter of the size, doubled twice.

    The common generator of data-free distillation (arXiv:1905.09768, arXiv:2310.00258). Sizes that four does not divide
    are rounded up first and reached exactly in the end.

    Args:
        latent: Width of a latent vector.
        data: What the images should look like.
        width: Channels of the first map; the last has half of them.
        hidden: Width of a layer before the first map; ``None`` for none.
        normalize_latent: Whether the latent passes a batch normalisation first, as embeddings should.
        pixel_range: Smallest and largest value of a pixel, as the teacher has seen them.

    Raises:
        InputError: The samples are not images.
    """

    def __init__(
        self,
        latent: int,
        data: DataInfo,
        *,
        width: int = 128,
        hidden: int | None = None,
        normalize_latent: bool = False,
        pixel_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__()
        channels, height, rows = image_shape(data, "generator")
        self.latent, self.pixel_range = latent, pixel_range
        first, second = [tuple(-(-side // part) for side in (height, rows)) for part in (4, 2)]
        before: list[nn.Module] = [nn.BatchNorm1d(latent)] if normalize_latent else []
        if hidden is not None:
            before.append(nn.Linear(latent, hidden))
        half = max(width // 2, 1)
        self.layers = nn.Sequential(
            *before,
            nn.Linear(hidden or latent, width * prod(first)),
            nn.Unflatten(1, (width, *first)),
            nn.BatchNorm2d(width),
            nn.Upsample(second),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
            nn.Upsample((height, rows)),
            nn.Conv2d(width, half, 3, padding=1),
            nn.BatchNorm2d(half),
            nn.LeakyReLU(0.2),
            nn.Conv2d(half, channels, 3, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, latent: Tensor) -> Tensor:
        """``[batch, latent]`` to ``[batch, channels, height, width]``."""
        low, high = self.pixel_range
        images: Tensor = low + (high - low) * self.layers(latent)
        return images

    def start_anew(self) -> None:
        """Draw all parameters again."""
        for part in self.modules():
            reset = getattr(part, "reset_parameters", None)
            if callable(reset):
                reset()


class Encoder(nn.Module):
    """Images to means and log-variances of latent vectors: the other half of a variational autoencoder.

    Args:
        latent: Width of a latent vector.
        data: What the images look like.
        width: Channels of the first map; the second has twice as many.
    """

    def __init__(self, latent: int, data: DataInfo, *, width: int = 32) -> None:
        super().__init__()
        channels, height, rows = image_shape(data, "encoder")
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, 2, padding=1),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 3, 2, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(2 * width * -(-height // 4) * -(-rows // 4), 2 * latent),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """``[batch, channels, height, width]`` to two ``[batch, latent]``."""
        mean, log_variance = self.layers(images).chunk(2, 1)
        return mean, log_variance


class ImageRing(nn.Module):
    """The newest batches of images, first in first out, as buffers: saved and resumed with what owns it.

    Args:
        capacity: How many batches are kept.
        rows: Images of a batch.
        shape: ``(channels, height, width)``.
    """

    images: Tensor
    pushed: Tensor

    def __init__(self, capacity: int, rows: int, shape: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(capacity, rows, *shape))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))

    def __len__(self) -> int:
        """Batches that it holds."""
        return min(int(self.pushed), len(self.images))

    def push(self, batch: Tensor) -> None:
        """Keep a batch ``[rows, channels, height, width]`` in place of the oldest.

        Raises:
            ValueError: It is of another size.
        """
        if batch.shape != self.images.shape[1:]:
            raise ValueError(f"a batch of {list(batch.shape)} does not fit a ring of {list(self.images.shape[1:])}")
        self.images[int(self.pushed) % len(self.images)] = batch.detach()
        self.pushed += 1

    def batches(self) -> Tensor:
        """``[kept, rows, channels, height, width]``, oldest first."""
        count, at = len(self), int(self.pushed) % len(self.images)
        return self.images[:count].roll(-at if count == len(self.images) else 0, 0)

    def one(self) -> Tensor:
        """One of the batches, at random.

        Raises:
            ValueError: There is none yet.
        """
        return self.images[self._draw(len(self), 1)[0]]

    def some(self, count: int) -> Tensor:
        """``[count, channels, height, width]``: images at random, with replacement.

        Raises:
            ValueError: There is none yet.
        """
        kept = self.images[: len(self)].flatten(0, 1)
        return kept[self._draw(len(kept), count)]

    def _draw(self, below: int, count: int) -> Tensor:
        if not below:
            raise ValueError("nothing was pushed yet, so there is nothing to draw from")
        return torch.randint(below, (count,), device=self.images.device)
