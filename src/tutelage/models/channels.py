"""A model that sees some of the input's channels: one modality of several, or an image without its privileged part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.recipe.errors import InputError


def seen(info: DataInfo, channels: Sequence[int] | None) -> DataInfo:
    """What a model that sees only these channels is built for.

    Raises:
        InputError: The data has no such channel.
    """
    if channels is None:
        return info
    count = info.input_shape[0]
    wrong = [channel for channel in channels if channel >= count]
    if wrong or len(set(channels)) != len(channels):
        raise InputError(
            f"channels {list(channels)}: the data has {count}, numbered 0 to {count - 1}, and each can be named once"
        )
    return replace(info, input_shape=(len(channels), *info.input_shape[1:]))


def see(module: nn.Module, channels: Sequence[int] | None) -> nn.Module:
    """Let a model see only these channels of what it is given; its parameters keep their names."""
    if channels is not None:
        module.register_forward_pre_hook(partial(_choose, list(channels)))
    return module


def _choose(channels: list[int], module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    inputs: Tensor = args[0]
    return inputs[:, channels], *args[1:]
