"""Mixing: augmentations that make a sample of two, and a label of their two labels."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from torch.nn import functional

from tutelage.data.augment import images_of
from tutelage.data.batch import Batch, DataInfo
from tutelage.data.seeds import beta, derive, integers, uniform
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component


def partners(seeds: Tensor) -> Tensor:
    """``[batch]`` int64: a permutation in which nobody is their own partner; of a single sample there is no such.

    All samples in the order of random keys are one cycle, so that a sample's partner follows from who is in the batch
    and not from where in it they stand.
    """
    order = derive(seeds, 0x5041).argsort(stable=True)
    return torch.empty_like(order).scatter_(0, order, order.roll(-1))


def soft_labels(labels: Tensor, classes: int, name: str) -> Tensor:
    """``[batch, classes]`` float32 from class indices; labels that are mixed already stay as they are.

    Raises:
        InputError: Some of the samples have no label, or a label is no class.
    """
    if labels.is_floating_point():
        return labels
    if not bool(((labels >= 0) & (labels < classes)).all()):
        raise InputError(
            f"augmentation '{name}' mixes labels in 0..{classes - 1}, but the batch holds labels from "
            f"{int(labels.min())} to {int(labels.max())} (-1 is a sample without a label)"
        )
    return functional.one_hot(labels, classes).float()


def mixed_labels(labels: Tensor, other: Tensor, share: Tensor, classes: int, name: str) -> Tensor:
    """``[batch, classes]`` float32; samples that have no label, none of them, keep having none.

    Args:
        labels: ``[batch]`` int64, or mixed already.
        other: ``[batch]`` int64: the partner of each.
        share: ``[batch]``: how much of a sample's own label stays.
        classes: Number of classes.
        name: What mixes, for errors.

    Raises:
        InputError: Some of the samples have no label.
    """
    if not labels.is_floating_point() and bool((labels == -1).all()):
        return labels
    whole = soft_labels(labels, classes, name)
    return torch.lerp(whole[other], whole, share[:, None].to(whole.dtype))


def blended(batch: Batch, other: Tensor, share: Tensor, classes: int, name: str) -> Batch:
    """Each sample and its label mixed with its partner's.

    Args:
        batch: Inputs of any shape.
        other: ``[batch]`` int64: the partner of each.
        share: ``[batch]``: how much of a sample stays.
        classes: Number of classes.
        name: What mixes, for errors.

    Raises:
        InputError: Some of the samples have no label.
    """
    weight = share.to(batch.inputs.dtype).view(-1, *(1 for _ in batch.inputs.shape[1:]))
    inputs = torch.lerp(batch.inputs[other], batch.inputs, weight)
    return batch.with_(inputs=inputs, labels=mixed_labels(batch.labels, other, share, classes, name))


class _Mixing:
    """What the two have in common: the draw, the partner and the labels.

    Partners are of one process's share of a batch, so that with another number of processes the pairs are others.

    Args:
        info: Facts about the data: the number of classes is needed.
        alpha: The share of a sample that stays is drawn from Beta(alpha, alpha).
        per: Draw once for the whole ``batch``, or for each ``sample``.
        p: Probability that a batch, or a sample, is mixed at all.
    """

    name = ""
    mixes: ClassVar[bool] = True

    def __init__(
        self,
        info: DataInfo,
        *,
        alpha: Annotated[float, Gt(0)] = 1.0,
        per: Literal["batch", "sample"] = "batch",
        p: Annotated[float, Ge(0), Le(1)] = 1.0,
    ) -> None:
        self.classes, self.alpha, self.per, self.p = info.classes, alpha, per, p

    def deciding(self, seeds: Tensor) -> Tensor:
        """``[batch]`` seeds of the decisions: each sample's own, or all the same."""
        return seeds if self.per == "sample" else derive(seeds, 0x4D).sum().expand_as(seeds)

    def share(self, seeds: Tensor) -> Tensor:
        """``[batch]`` float32 in [0, 1]: how much of each sample stays."""
        mixed = uniform(seeds, 1) < self.p
        return torch.where(mixed, beta(seeds, 0, self.alpha), 1.0)


@component("augment", "mixup")
class Mixup(_Mixing):
    """Blend each sample, of any shape, and its label with another's of the batch (Zhang et al., arXiv:1710.09412).

    Labels become ``[batch, classes]``: losses that need class indices refuse them. A batch of a single sample has
    nobody to mix it with, and stays.
    """

    name = "mixup"

    def __call__(self, batch: Batch) -> Batch:
        """Blend ``[batch, *input_shape]`` inputs.

        Raises:
            InputError: Some of the samples have no label.
        """
        other, share = partners(batch.seeds), self.share(self.deciding(batch.seeds))
        return blended(batch, other, share, self.classes, self.name)


@component("augment", "cutmix")
class CutMix(_Mixing):
    """Paste a box of another image of the batch, and as much of its label (Yun et al., arXiv:1905.04899, 3.1).

    The box's sides are sqrt(1 - share) of the image's, its centre is anywhere, and what lies outside is cut off; the
    labels are mixed by the area that was really pasted. Labels become ``[batch, classes]``: losses that need class
    indices refuse them. A batch of a single image has nobody to mix it with, and stays.
    """

    name = "cutmix"

    def __call__(self, batch: Batch) -> Batch:
        """Paste into ``[batch, channels, height, width]`` inputs.

        Raises:
            InputError: The inputs are not images, or some of the samples have no label.
        """
        _, _, height, width = images_of(batch, self.name)
        seeds = self.deciding(batch.seeds)
        other, ratio = partners(batch.seeds), (1.0 - self.share(seeds)).sqrt()
        rows = self._within(integers(seeds, 0, height, 2), ratio, height)
        columns = self._within(integers(seeds, 0, width, 3), ratio, width)
        box = (rows[:, :, None] & columns[:, None, :])[:, None]
        share = 1.0 - box.flatten(1).float().mean(1)
        inputs = torch.where(box, batch.inputs[other], batch.inputs)
        return batch.with_(inputs=inputs, labels=mixed_labels(batch.labels, other, share, self.classes, self.name))

    def _within(self, centre: Tensor, ratio: Tensor, length: int) -> Tensor:
        """``[batch, length]`` bool: which places the box covers along one axis."""
        half = (ratio * length / 2).floor()[:, None]
        away = torch.arange(length, device=centre.device) - centre[:, None]
        return (away >= -half) & (away < half)
