"""What flows through a step: a batch of samples that know who they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class DataInfo:
    """Facts about a data set that a model is built from; data of other kinds say more in a subclass.

    Args:
        input_shape: Shape of one sample, ``(channels, height, width)`` for images, ``(features,)`` for tables.
        classes: Number of classes.
        class_names: Their names, in label order.
        fingerprint: Hash of the data's content (or of its source and preparation).
        class_counts: Labelled training samples of each class, in label order; empty where that is not known.
    """

    input_shape: tuple[int, ...]
    classes: int
    class_names: tuple[str, ...]
    fingerprint: str
    class_counts: tuple[int, ...] = ()

    @property
    def classified(self) -> bool:
        """Whether a sample's label is one class, so that classes can be counted, balanced and kept back."""
        return True

    def blank(self, count: int, device: torch.device | str = "cpu") -> Tensor:
        """Inputs of this many samples without content, to learn what a model makes of their shape."""
        return torch.zeros(count, *self.input_shape, device=device)


@dataclass(frozen=True)
class Batch:
    """Samples of one step.

    Data of another kind have a subclass with tensors of their own, the first dimension of each being the samples.

    Args:
        inputs: ``[batch, *input_shape]`` float32.
        labels: ``[batch]`` int64 class indices, or ``[batch, classes]`` float32 targets once labels are mixed.
        ids: ``[batch]`` int64: the sample's stable position in its data set; banks and stores look it up by this.
        seeds: ``[batch]`` int64: seed of this view of the sample; the same seed replays the same augmentation.
    """

    inputs: Tensor
    labels: Tensor
    ids: Tensor
    seeds: Tensor

    def __len__(self) -> int:
        return int(self.ids.shape[0])

    @property
    def fields(self) -> tuple[Tensor, ...]:
        """All its tensors, in order."""
        return tuple(getattr(self, field.name) for field in fields(self))

    @property
    def arguments(self) -> tuple[Tensor, ...]:
        """What models are called with, by position."""
        return (self.inputs,)

    @classmethod
    def join(cls, batches: Sequence[Self]) -> Self:
        """The samples of several batches, one after the other."""
        kind = type(batches[0]) if batches else cls
        return kind(*(torch.cat(one) for one in zip(*(batch.fields for batch in batches), strict=True)))

    def rows(self, index: Tensor) -> Self:
        """Only the samples in these places, in this order."""
        return type(self)(*(field[index] for field in self.fields))

    def divided(self, parts: int) -> list[Self]:
        """Contiguous parts whose sizes differ by at most one."""
        return [
            type(self)(*pieces) for pieces in zip(*(field.tensor_split(parts) for field in self.fields), strict=True)
        ]

    def to(self, device: torch.device | str) -> Self:
        """The same batch on another device."""
        return type(self)(*(field.to(device, non_blocking=True) for field in self.fields))

    def pin_memory(self) -> Self:
        """The same batch in page-locked memory."""
        return type(self)(*(field.pin_memory() for field in self.fields))

    def with_(self, **changes: Any) -> Self:
        """A copy with some fields replaced."""
        return replace(self, **changes)
