"""What flows through a step: a batch of samples that know who they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class DataInfo:
    """Facts about a data set that a model is built from.

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


@dataclass(frozen=True)
class Batch:
    """Samples of one step.

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
    def fields(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All its tensors, in order."""
        return self.inputs, self.labels, self.ids, self.seeds

    @staticmethod
    def join(batches: Sequence[Batch]) -> Batch:
        """The samples of several batches, one after the other."""
        return Batch(*(torch.cat(one) for one in zip(*(batch.fields for batch in batches), strict=True)))

    def rows(self, index: Tensor) -> Batch:
        """Only the samples in these places, in this order."""
        return Batch(*(field[index] for field in self.fields))

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(*(t.to(device, non_blocking=True) for t in (self.inputs, self.labels, self.ids, self.seeds)))

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory."""
        return Batch(*(t.pin_memory() for t in (self.inputs, self.labels, self.ids, self.seeds)))

    def with_(self, **changes: Any) -> Batch:
        """A copy with some fields replaced."""
        return replace(self, **changes)
