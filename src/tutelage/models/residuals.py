"""Networks without their skip connections (arXiv:2006.16589): y = act(F(x) + shortcut(x)) becomes y = act(F(x))."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.models.standard import parameters_of
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component
from tutelage.recipe.types import Of

_SHORTCUTS = ("downsample", "shortcut")


class NoShortcut(nn.Module):
    """Stands where a block's shortcut was: adds nothing."""

    def forward(self, x: Tensor) -> Tensor:
        """Zero, which broadcasts to any shape."""
        return torch.zeros((), dtype=x.dtype, device=x.device)


def residual_blocks(module: nn.Module) -> list[str]:
    """Paths of a model's residual blocks, in its order, whether or not their skip connections are still there.

    A block is a module with a boolean attribute ``residual``, which its forward asks, or with a ``downsample`` or
    ``shortcut`` that its forward adds, as the blocks of torchvision and of transformers have.

    Args:
        module: The model.
    """
    found = []
    for path, part in module.named_modules():
        flagged = isinstance(getattr(part, "residual", None), bool)
        if path and (flagged or _shortcut(part) is not None):
            found.append(path)
    return found


def remove_residuals(module: nn.Module, remove: str = "all") -> int:
    """Take skip connections out, in place, with what they project; strides are those of the blocks' own layers.

    Weights stay as they are, so remove them from a freshly initialised model. One without residual blocks is left
    unchanged.

    Args:
        module: The model.
        remove: ``all``, ``last:3`` for the last three blocks, or ``alternate`` for every second one.

    Returns:
        How many parameters went with them: those of projections.

    Raises:
        InputError: ``remove`` says none of these.
    """
    before = parameters_of(module)
    for path in chosen(residual_blocks(module), remove):
        block = module.get_submodule(path)
        if isinstance(getattr(block, "residual", None), bool):
            block.residual = False  # type: ignore[assignment]
        shortcut = _shortcut(block)
        if shortcut is not None:
            setattr(block, shortcut, NoShortcut())
    return before - parameters_of(module)


def chosen(blocks: list[str], remove: str) -> list[str]:
    """Those of the blocks that ``remove`` names, see `remove_residuals`."""
    last = re.fullmatch(r"last:(\d+)", remove)
    if remove == "all":
        return blocks
    if remove == "alternate":
        return blocks[1::2]
    if last:
        return blocks[max(0, len(blocks) - int(last[1])) :]
    raise InputError(f"remove is '{remove}': expected 'all', 'alternate', or 'last:' and a number, such as 'last:3'")


def _shortcut(block: nn.Module) -> str | None:
    """The attribute that a block's forward adds; absent in modules that are no residual blocks."""
    for name in _SHORTCUTS:
        # torchvision says None where the shortcut is the identity; other modules do not have the attribute at all.
        part = getattr(block, name, _SHORTCUTS)
        if isinstance(part, nn.Module) or (part is None and name == "downsample"):
            return name
    return None


@component("model", "plain")
class Plain(nn.Module):
    """Another model without its skip connections, initialised like it.

    Args:
        data: What it is built for.
        of: The residual model, e.g. ``{model: resnet, depth: 20}``.
        remove: Where: in ``all`` blocks, in the last three (``last:3``), or in every second one (``alternate``).
    """

    def __init__(self, data: DataInfo, /, *, of: Annotated[Any, Of("model")], remove: str = "all") -> None:
        super().__init__()
        self.inner: nn.Module = of.build(data)
        blocks = chosen(residual_blocks(self.inner), remove)
        if not blocks:
            raise InputError(
                f"plain: the model '{of.name}' has no skip connections to remove; take one such as 'resnet'"
            )
        remove_residuals(self.inner, remove)

    @property
    def standard_taps(self) -> Mapping[str, str] | None:
        """Those of the model inside."""
        taps: Mapping[str, str] | None = getattr(self.inner, "standard_taps", None)
        return None if taps is None else {name: f"inner.{place}" for name, place in taps.items()}

    def forward(self, inputs: Tensor) -> Tensor:
        """``[batch, *input_shape]`` to ``[batch, classes]`` logits."""
        logits: Tensor = self.inner(inputs)
        return logits
