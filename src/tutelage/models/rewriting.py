"""Rewriting what passes a place inside a model, for as long as a block lasts; and masks that do it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.models.paths import Place, modules_of
from tutelage.recipe.errors import InputError


@contextmanager
def rewritten(module: nn.Module, place: Place, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside the block, forwards of the module go on with ``change(value)`` in place of what passes a place.

    The hook is gone afterwards, also when the forward fails: masks do not pile up.

    Args:
        module: The raw module.
        place: Of it, see `tutelage.models.taps.places`.
        change: What is done to the value; it gets and gives one tensor.

    Raises:
        InputError: What passes there is not one tensor.
    """
    part = modules_of(module)[place.path]

    def changed(value: Any) -> Tensor:
        if not isinstance(value, Tensor):
            raise InputError(f"what passes '{place}' is a {type(value).__name__}; only a tensor can be rewritten")
        return change(value)

    def before(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return changed(args[0]), *args[1:]

    def after(_: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor:
        return changed(output)

    handle = part.register_forward_pre_hook(before) if place.side == "input" else part.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


class FeatureMask(nn.Module):
    """A mask in (0, 1) for each feature of a layer, that looks at all of them (arXiv:2507.07015, section 3.2).

    The d features become d tokens of width h = heads · ⌊d / (factor · heads)⌋, which attend to each other and give one
    number each. A feature map ``[batch, d, height, width]`` is first reduced to d numbers and the mask is the same at
    every position; so it is for tokens ``[batch, tokens, d]``. The first layer alone has d² · h weights: 67 million for
    d = 512, factor 2.

    Args:
        example: What passes the layer.
        heads: Attention heads.
        factor: By how much h is smaller than d.

    Raises:
        InputError: The features have no shape that a mask is made for.
    """

    def __init__(self, example: Tensor, *, heads: int = 3, factor: int = 2) -> None:
        super().__init__()
        if example.ndim not in (2, 3, 4):
            raise InputError(
                f"features of shape {list(example.shape)} cannot be masked: expected [batch, features], "
                "[batch, tokens, features] or [batch, channels, height, width]"
            )
        self.dims, self.width = example.ndim, int(example.shape[2 if example.ndim == 3 else 1])
        width = self.width
        self.inner = heads * max(width // (factor * heads), 1)
        self.reduce = (
            nn.Sequential(
                nn.Conv2d(width, width, 3, 2, padding=1, groups=width),
                nn.Conv2d(width, width, 1),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            )
            if self.dims == 4
            else nn.Identity()
        )
        self.embed = nn.Linear(width, width * self.inner)
        self.attention = nn.MultiheadAttention(self.inner, heads, batch_first=True)
        self.score = nn.Linear(self.inner, 1)

    def mask(self, features: Tensor) -> Tensor:
        """``[batch, d]`` in (0, 1)."""
        reduced = self.reduce(features)
        if self.dims == 4:
            reduced = reduced.mean((2, 3))
        elif self.dims == 3:
            reduced = reduced.mean(1)
        tokens = self.embed(reduced).view(-1, self.width, self.inner)
        attended, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return torch.sigmoid(self.score(attended)).squeeze(-1)

    def forward(self, features: Tensor) -> Tensor:
        """The features, each multiplied by its mask."""
        shape = {2: (-1, self.width), 3: (-1, 1, self.width), 4: (-1, self.width, 1, 1)}[self.dims]
        return self.mask(features).view(shape) * features
