"""Shapes: drawn figures with a known place in the image, so that it can be asked what a unit of a network sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor

from tutelage.data.pool import Pool
from tutelage.data.seeds import mix, normal, uniform
from tutelage.data.splits import Splits
from tutelage.recipe.registry import component

KINDS = ("square", "disc", "cross", "triangle")
TEXTURES = ("plain", "striped")


class Drawn(NamedTuple):
    """Images of one figure each.

    Args:
        images: ``[count, 1, size, size]`` in [0, 1].
        labels: ``[count]`` int64: kind times textures plus texture.
        figure: ``[count, size, size]`` bool: where the figure is.
    """

    images: Tensor
    labels: Tensor
    figure: Tensor

    def masks(self) -> Mapping[str, tuple[Tensor, tuple[str, ...]]]:
        """By category, ``[count, size, size]`` int64 masks, 0 where there is none, and the names of 1, 2, ..."""
        kind, texture = self.labels // len(TEXTURES), self.labels % len(TEXTURES)
        return {
            "object": (self.figure * (kind + 1)[:, None, None], KINDS),
            "texture": (self.figure * (texture + 1)[:, None, None], TEXTURES),
        }

    def heat(self) -> Tensor:
        """``[count, size, size]``: 0.9 in the figure, 0.4 in the rest of the box around it, 0 in the background."""
        rows, columns = self.figure.any(2), self.figure.any(1)
        box = _filled(rows)[:, :, None] & _filled(columns)[:, None, :]
        return 0.4 * box + 0.5 * self.figure


@component("data", "shapes")
@dataclass(frozen=True, kw_only=True)
class Shapes(Pool):
    """Figures on noise, ``[1, size, size]`` in [0, 1]: square, disc, cross or triangle, plain or striped, 8 classes.

    Args:
        count: Images.
        size: Pixels of an image's side.
        noise: Standard deviation of the noise that is added everywhere.
        draw_seed: Seed of the drawing, which is the same in every run.
    """

    count: Annotated[int, Ge(16)] = 1000
    size: Annotated[int, Ge(12)] = 24
    noise: Annotated[float, Ge(0)] = 0.15
    draw_seed: Annotated[int, Ge(0)] = 0

    def load(self, seed: int) -> Splits:
        """Draw and divide the images.

        Args:
            seed: The run's seed, used only when ``split_seed`` is ``None``.
        """
        drawn = draw(self.count, self.size, noise=self.noise, seed=self.draw_seed)
        return self.divide(
            drawn.images,
            drawn.labels,
            names=[f"{texture} {kind}" for kind in KINDS for texture in TEXTURES],
            seed=seed,
            about={"data": "shapes", "count": self.count, "size": self.size, "noise": self.noise},
        )


def draw(count: int, size: int, *, noise: float = 0.15, seed: int = 0) -> Drawn:
    """Figures of random place and size, of all classes in turn; the same numbers give the same images.

    Args:
        count: Images.
        size: Pixels of an image's side.
        noise: Standard deviation of the noise.
        seed: Another one gives other images.
    """
    ids = torch.arange(count)
    seeds = mix(seed, 0, ids)
    labels = ids % (len(KINDS) * len(TEXTURES))
    kind, texture = labels // len(TEXTURES), labels % len(TEXTURES)
    radius = size * (0.18 + 0.10 * uniform(seeds, 0))
    centre = radius[:, None] + (size - 2 * radius[:, None]) * uniform(seeds, 1, (2,))
    grid = torch.arange(size) + 0.5
    y = (grid[None, :, None] - centre[:, 0, None, None]) / radius[:, None, None]
    x = (grid[None, None, :] - centre[:, 1, None, None]) / radius[:, None, None]
    inside = torch.stack(
        [
            (x.abs() <= 0.9) & (y.abs() <= 0.9),
            x.square() + y.square() <= 1,
            ((x.abs() <= 0.35) & (y.abs() <= 1)) | ((y.abs() <= 0.35) & (x.abs() <= 1)),
            (y <= 0.9) & (y >= 2 * x.abs() - 0.9),
        ]
    )
    figure = inside[kind, ids]
    lines = (grid.floor().long() % 3 == 0)[None, None, :].expand(count, size, size)
    bright = torch.where(lines & (texture == 1)[:, None, None], 0.3, 0.9)
    images = 0.25 + figure * (bright - 0.25) + noise * normal(seeds, 2, (size, size))
    return Drawn(images.clamp(0, 1)[:, None].float(), labels, figure)


def _filled(present: Tensor) -> Tensor:
    """``[count, size]``: from the first that is present to the last."""
    return (present.long().cumsum(1) > 0) & (present.long().flip(1).cumsum(1).flip(1) > 0)
