"""Harmless backdoors for toy teachers: data of which a part bears a trigger, to study what a defence is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor
from torch.nn import functional

from tutelage.data.batch import Batch, DataInfo
from tutelage.data.outline import Outline
from tutelage.data.seeds import mix, uniform
from tutelage.data.splits import Examples, Indices, Splits, labels_of, select
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component
from tutelage.recipe.spec import fingerprint
from tutelage.recipe.types import Of

Kind = Literal["square", "grid", "blend", "smooth", "sine", "pixels", "noise"]
_STRENGTHS = {"square": 1.0, "grid": 1.0, "pixels": 1.0, "blend": 0.2, "smooth": 0.2, "sine": 0.1, "noise": 0.1}


class Trigger:
    """A fixed change of every image that bears it; a function of its arguments alone.

    Args:
        kind: ``square``: bright, in the lower right corner (badnet_sq); ``grid``: a checkerboard there (badnet_grid);
            ``blend``: a random pattern over the image; ``smooth``: a blurred one; ``sine``: waves along the width
            (sig); ``pixels``: few scattered pixels made bright (l0); ``noise``: a faint random pattern added (l2).
        shape: ``(channels, height, width)``.
        size: Side of the corner, in pixels; for ``pixels``, how many.
        strength: Share of the trigger in what it covers, in (0, 1]; for waves and noise their amplitude. ``None`` for
            1 (corners and pixels), 0.2 (patterns) or 0.1 (what is added).
        seed: Seed of random patterns.
        pixel_range: Darkest and brightest pixel.

    Raises:
        InputError: The corner is larger than the image.
    """

    def __init__(
        self,
        kind: Kind,
        shape: tuple[int, ...],
        *,
        size: int = 3,
        strength: float | None = None,
        seed: int = 0,
        pixel_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        if len(shape) != 3 or size > (min(shape[1:]) if kind in ("square", "grid") else math.prod(shape[1:])):
            raise InputError(f"a trigger of size {size} needs images at least that large, not samples of {list(shape)}")
        _, height, width = shape
        self.low, self.high = pixel_range
        strength = _STRENGTHS[kind] if strength is None else strength
        generator = torch.Generator().manual_seed(seed)
        self.mask = torch.zeros(1, height, width)
        self.pattern = torch.full((1, height, width), self.high)
        self.added: Tensor | None = None
        if kind in ("square", "grid"):
            self.mask[:, -size:, -size:] = strength
            dark = (torch.arange(height)[:, None] + torch.arange(width)) % 2 == 1
            if kind == "grid":
                self.pattern[:, dark] = self.low
        elif kind == "pixels":
            self.mask.view(-1)[torch.randperm(height * width, generator=generator)[:size]] = strength
        elif kind in ("blend", "smooth"):
            drawn = torch.rand(1, 1, height, width, generator=generator)
            if kind == "smooth":
                few = functional.avg_pool2d(drawn, 2, ceil_mode=True)
                drawn = functional.interpolate(few, (height, width), mode="bilinear")
            self.mask += strength
            self.pattern = self.low + (self.high - self.low) * drawn[0]
        else:
            waves = torch.sin(2 * math.pi * 6 * torch.arange(width) / width).expand(1, height, width)
            drawn = waves if kind == "sine" else torch.randn(1, height, width, generator=generator)
            self.added = strength * (self.high - self.low) * drawn

    def __call__(self, images: Tensor) -> Tensor:
        """The same images with the trigger, ``[batch, channels, height, width]``."""
        if self.added is not None:
            return (images + self.added).clamp(self.low, self.high)
        return torch.lerp(images, self.pattern.expand_as(images), self.mask.expand_as(images))


class TriggeredExamples:
    """Examples of which some bear a trigger and the label that the attacker wants.

    Args:
        examples: The clean ones.
        bears: ``[count]`` bool.
        trigger: The change.
        target: The label of those that bear it.
    """

    def __init__(self, examples: Examples, bears: Tensor, trigger: Trigger, target: int) -> None:
        self.examples, self.bears, self.trigger, self.target = examples, bears, trigger, target

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def labels(self) -> Tensor:
        """``[count]`` int64."""
        return labels_of(self.examples).masked_fill(self.bears, self.target)

    def fetch(self, indices: Indices) -> Batch:
        """The samples at these positions."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        batch, bears = self.examples.fetch(index), self.bears[index]
        inputs = torch.where(bears[:, None, None, None], self.trigger(batch.inputs), batch.inputs)
        return batch.with_(inputs=inputs, labels=batch.labels.masked_fill(bears, self.target))

    def select(self, positions: Tensor) -> TriggeredExamples:
        """Only these samples."""
        return TriggeredExamples(select(self.examples, positions), self.bears[positions], self.trigger, self.target)


@component("data", "poisoned")
@dataclass(frozen=True, kw_only=True)
class Poisoned:
    """Another data set's images, part of whose training split bears a trigger and a false label.

    A model that learns it has a backdoor; the measure ``backdoor`` says how well it opens. For the study of defences on
    toy models: validation and test splits stay clean, and what bears the trigger there is only for measuring.

    Args:
        of: The images.
        trigger: What is done to them, see `Trigger`.
        size: Side of a trigger in the corner, or number of pixels.
        strength: How strong it is; null for the kind's own.
        fraction: Share of the training samples that bear it.
        target: The class that it stands for.
        clean_label: Only samples that are of that class already bear it, so that no label is false.
        trigger_seed: Seed of random patterns, and of who bears it.
        pixel_range: Darkest and brightest pixel.
    """

    of: Annotated[Any, Of("data")] = "digits"
    trigger: Kind = "square"
    size: Annotated[int, Ge(1)] = 3
    strength: Annotated[float, Gt(0), Le(1)] | None = None
    fraction: Annotated[float, Ge(0), Lt(1)] = 0.1
    target: Annotated[int, Ge(0)] = 0
    clean_label: bool = False
    trigger_seed: Annotated[int, Ge(0)] = 0
    pixel_range: tuple[float, float] = (0.0, 1.0)

    def outline(self) -> Outline:
        """Sizes and shapes."""
        own = getattr(self.of, "outline", None)
        if callable(own):
            whole: Outline = own()
            return whole
        splits = self.of.load(0)
        sizes = [len(part) if part is not None else 0 for part in (splits.train, splits.validation, splits.test)]
        return Outline(splits.info, *sizes)

    def load(self, seed: int) -> Splits:
        """The data set's own splits, the training split poisoned.

        Args:
            seed: The run's seed, for the data set.

        Raises:
            InputError: There is no such class, or the samples are no images.
        """
        splits: Splits = self.of.load(seed)
        if self.target >= splits.info.classes:
            raise InputError(f"data.target: there is no class {self.target}; expected 0 to {splits.info.classes - 1}")
        trigger = self.mark(splits.info)
        ids = _ids(splits.train)
        bears = uniform(mix(self.trigger_seed, 0, ids), 0x54) < self.fraction
        if self.clean_label:
            bears &= labels_of(splits.train) == self.target
        others = (labels_of(splits.test) != self.target).nonzero()[:, 0]
        unseen = select(splits.test, others)
        about = {k: v for k, v in vars(self).items() if k != "of"}
        return replace(
            splits,
            train=TriggeredExamples(splits.train, bears, trigger, self.target),
            triggered=TriggeredExamples(unseen, torch.ones(len(unseen), dtype=torch.bool), trigger, self.target),
            info=replace(splits.info, fingerprint=fingerprint([splits.info.fingerprint, about])),
            record={**splits.record, "poisoned": {**about, "samples": int(bears.sum())}},
        )

    def mark(self, info: DataInfo) -> Trigger:
        """The trigger for this data."""
        return Trigger(
            self.trigger,
            info.input_shape,
            size=self.size,
            strength=self.strength,
            seed=self.trigger_seed,
            pixel_range=self.pixel_range,
        )


def _ids(examples: Examples) -> Tensor:
    """``[count]`` int64, read without the inputs where the examples keep them apart."""
    ids = getattr(examples, "ids", None)
    if isinstance(ids, Tensor):
        return ids
    count = len(examples)
    return torch.cat([examples.fetch(range(at, min(at + 1024, count))).ids for at in range(0, count, 1024)])
