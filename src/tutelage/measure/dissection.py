"""Network dissection: which units of a layer are detectors of a concept (arXiv:1704.05796)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.data.concepts import Concepts
from tutelage.losses.explanations import resized


@dataclass(frozen=True)
class Dissection:
    """What the units of a layer see.

    Args:
        iou: ``[units, concepts]`` overlap over the whole set of images, in [0, 1].
        categories: The category of each concept.
        names: The name of each concept.
        least: Overlap from which a unit is a detector.
        highest: ``[units, 10]`` int64 places of the images that move a unit most, fewer where there are fewer.
    """

    iou: Tensor
    categories: tuple[str, ...]
    names: tuple[str, ...]
    least: float
    highest: Tensor

    @property
    def best(self) -> Tensor:
        """``[units]`` int64: each unit's concept."""
        return self.iou.argmax(1)

    @property
    def detectors(self) -> Tensor:
        """``[units]`` bool: whether a unit is a detector of its concept."""
        return self.iou.amax(1) >= self.least

    def counts(self) -> dict[str, int]:
        """``detectors``; ``unique``, the concepts they detect; and the detectors of each category."""
        found = self.best[self.detectors].tolist()
        each = {f"detectors_{c}": sum(self.categories[i] == c for i in found) for c in dict.fromkeys(self.categories)}
        return {"detectors": len(found), "unique": len(set(found)), **each}

    def histogram(self, bins: int = 10, most: float = 0.5) -> Tensor:
        """``[bins]`` int64: units by their best overlap, in equal bins up to ``most``; the last holds what is above."""
        places = (self.iou.amax(1) / most * bins).long().clamp(max=bins - 1)
        return torch.bincount(places, minlength=bins)


def dissect(maps: Tensor, concepts: Concepts, *, quantile: float = 0.005, least: float = 0.05) -> Dissection:
    """Label each unit with the concept that its strongest activations overlap most.

    A unit is on where it exceeds the threshold that a share ``quantile`` of its activations, over all images and
    positions of its own low-resolution maps, exceeds. The overlap is of sums over the whole set, not a mean over
    images. Where a unit is on counts against a concept only in images where it meets a label of the concept's category.

    Args:
        maps: ``[count, units, height, width]`` of the concepts' images, in evaluation mode.
        concepts: What is labelled.
        quantile: That share, in (0, 1).
        least: Overlap from which a unit is a detector.

    Raises:
        ValueError: The maps are not of these images, or the quantile is outside (0, 1).
    """
    if maps.ndim != 4 or len(maps) != len(concepts.images):
        raise ValueError(f"maps must be [{len(concepts.images)}, units, height, width], not {list(maps.shape)}")
    limits = thresholds(maps, quantile)
    categories = tuple(c for c, names in concepts.names.items() for _ in names)
    size = next(iter(concepts.masks.values())).shape[1:]
    labels = {
        category: torch.stack([mask == i + 1 for i in range(len(concepts.names[category]))])
        for category, mask in concepts.masks.items()
    }
    rows = []
    for unit, limit in enumerate(limits):
        # Interpolation stays below the highest value, so an image that nowhere exceeds the limit has nothing on.
        on = resized(maps[:, unit : unit + 1].float().cpu(), size)[:, 0] > limit
        row = []
        for category, of in labels.items():
            anything = concepts.masks[category] > 0
            counted = on & (on & anything).flatten(1).any(1)[:, None, None]
            both = (of & on).flatten(1).sum(1)
            either = of.flatten(1).sum(1) + counted.sum() - both
            row.append(both / either.clamp(min=1))
        rows.append(torch.cat(row))
    peaks = maps.flatten(2).amax(2).cpu()
    highest = peaks.topk(min(10, len(peaks)), dim=0).indices.T
    names = tuple(name for each in concepts.names.values() for name in each)
    return Dissection(torch.stack(rows).float(), categories, names, least, highest)


def thresholds(maps: Tensor, quantile: float) -> list[float]:
    """For each unit, the activation that a share ``quantile`` of all its activations exceeds (fewer where some tie).

    Args:
        maps: ``[count, units, height, width]``.
        quantile: In (0, 1).

    Raises:
        ValueError: The quantile is outside (0, 1).
    """
    if not 0 < quantile < 1:
        raise ValueError(f"quantile must be in (0, 1), got {quantile}")
    each = maps.transpose(0, 1).flatten(1).float().cpu()
    keep = int(quantile * each.shape[1] + 1e-9)
    limits: list[float] = each.topk(keep + 1, dim=1).values[:, -1].tolist()
    return limits


def spread(features: Tensor) -> Tensor:
    """Feature maps ``[count, units, height, width]``: tokens ``[count, tokens, width]`` laid out as a square.

    A class token, which makes the number of tokens one more than a square, is left out.

    Raises:
        ValueError: The features have no positions.
    """
    if features.ndim == 4:
        return features
    side = int(features.shape[1] ** 0.5) if features.ndim == 3 else 0
    if not side or features.shape[1] - side * side not in (0, 1):
        raise ValueError(f"a layer of shape {list(features.shape[1:])} has no positions in the image")
    maps: Tensor = features[:, -side * side :].transpose(1, 2).unflatten(2, (side, side))
    return maps
