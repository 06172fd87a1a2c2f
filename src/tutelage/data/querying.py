"""Which samples of a pool to ask about next: pure functions of what a model says of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tutelage.data.seeds import mix, uniform


class Cover(NamedTuple):
    """What a greedy cover chose.

    Args:
        picks: ``[count]`` int64 positions in the pool, in the order of choice.
        radii: ``[count]``: at each choice, how far the chosen was from all centres before; never rising.
    """

    picks: Tensor
    radii: Tensor


@dataclass(frozen=True)
class Answers:
    """What a student says of a labelled set and of the pool beside it; the pool's labels are not in it.

    Args:
        probabilities: ``[pool, classes]``.
        embeddings: ``[pool, width]``.
        labelled_probabilities: ``[labelled, classes]``.
        labelled_embeddings: ``[labelled, width]``.
        labels: ``[labelled]`` int64.
        seed: Seed of what is left to chance.
    """

    probabilities: Tensor
    embeddings: Tensor
    labelled_probabilities: Tensor
    labelled_embeddings: Tensor
    labels: Tensor
    seed: int


def cover(distance_to: Callable[[Tensor], Tensor], nearest: Tensor, count: int, first: int | None = None) -> Cover:
    """Farthest point first: each choice is the point that is farthest from all centres, and becomes one (k-centre).

    Args:
        distance_to: Position of a point to the distances ``[pool]`` of all points to it.
        nearest: ``[pool]``: distance of each point to the nearest centre there is; infinite where there is none.
        count: How many to choose, at most as many as there are points.
        first: A choice that is made beforehand.

    Raises:
        ValueError: There are fewer points.
    """
    if not 0 <= count <= len(nearest):
        raise ValueError(f"{count} of {len(nearest)} points cannot be chosen")
    nearest = nearest.clone()
    picks: list[int] = []
    radii: list[float] = []
    for turn in range(count):
        pick = first if turn == 0 and first is not None else int(nearest.argmax())
        picks.append(pick)
        radii.append(float(nearest[pick]))
        nearest = torch.minimum(nearest, distance_to(torch.tensor(pick, device=nearest.device)))
        # Below every distance, so that nobody is chosen twice.
        nearest[picks] = -1.0
    return Cover(torch.tensor(picks, dtype=torch.int64), torch.tensor(radii))


def probability_cover(pool: Tensor, centres: Tensor, count: int) -> Cover:
    """PCoreSet: the greedy cover by Euclidean distance between predicted distributions (arXiv:2506.00910).

    Args:
        pool: ``[pool, classes]`` probabilities.
        centres: ``[centres, classes]`` those of the labelled samples; there may be none.
        count: How many to choose.
    """
    nearest = pool.new_full((len(pool),), torch.inf)
    if len(centres):
        # By differences: through products, close points would be at distances that are mostly rounding.
        nearest = torch.cdist(pool, centres, compute_mode="donot_use_mm_for_euclid_dist").amin(1)
    return cover(lambda pick: (pool - pool[pick]).norm(dim=1), nearest, count)


def feature_cover(pool: Tensor, centres: Tensor, count: int) -> Cover:
    """CoreSet: the greedy cover by 1 − cosine between embeddings (arXiv:1708.00489).

    Args:
        pool: ``[pool, width]``.
        centres: ``[centres, width]``.
        count: How many to choose.
    """
    ours, theirs = (torch.nn.functional.normalize(x, dim=1) for x in (pool, centres))
    nearest = (1 - ours @ theirs.T).amin(1) if len(centres) else pool.new_full((len(pool),), torch.inf)
    return cover(lambda pick: 1 - ours @ ours[pick], nearest, count)


def gradient_cover(probabilities: Tensor, embeddings: Tensor, count: int) -> Cover:
    """BADGE without chance: farthest first, by 1 − cosine, among gradients of the last layer (arXiv:1906.03671).

    The gradient for the class that the model believes in is (onehot − p) ⊗ h; the largest is chosen first. Its outer
    product is never made: cosines of products are products of cosines.

    Args:
        probabilities: ``[pool, classes]``.
        embeddings: ``[pool, width]``.
        count: How many to choose.
    """
    errors = torch.nn.functional.one_hot(probabilities.argmax(1), probabilities.shape[1]) - probabilities
    lengths = errors.norm(dim=1) * embeddings.norm(dim=1)
    e, h = (torch.nn.functional.normalize(x, dim=1) for x in (errors, embeddings))
    start = int(lengths.argmax()) if len(lengths) else None
    nearest = lengths.new_full((len(lengths),), torch.inf)
    return cover(lambda pick: 1 - (e @ e[pick]) * (h @ h[pick]), nearest, count, first=start)


def entropy_first(probabilities: Tensor, count: int) -> Tensor:
    """``[count]`` int64: the samples whose predicted distribution is the most uncertain."""
    entropy: Tensor = -torch.special.xlogy(probabilities, probabilities).sum(1)
    return entropy.argsort(descending=True, stable=True)[:count]


def at_random(size: int, count: int, seed: int) -> Tensor:
    """``[count]`` int64 of ``size``, without repetition."""
    return uniform(mix(seed, 0, torch.arange(size)), 0).argsort(stable=True)[:count]


def class_balanced(probabilities: Tensor, labels: Tensor, count: int, seed: int) -> Tensor:
    """``[count]`` int64: at random within predicted classes, of which each gets what it lacks among the labels.

    A class's share is in inverse proportion to its number of labels, so that rare classes are asked for more; what a
    class has too few candidates for goes to the next.

    Args:
        probabilities: ``[pool, classes]``.
        labels: ``[labelled]`` int64.
        count: How many to choose.
        seed: Seed of the choice within a class.
    """
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(1).cpu()
    weight = 1.0 / torch.bincount(labels.cpu(), minlength=classes).clamp(min=1).double()
    available = torch.bincount(predicted, minlength=classes)
    quota = torch.zeros(classes, dtype=torch.int64)
    for _ in range(min(count, len(predicted))):
        # The class that is farthest behind its share, as in Webster's apportionment.
        behind = torch.where(quota < available, weight / (2 * quota + 1), -1.0)
        quota[int(behind.argmax())] += 1
    order = at_random(len(predicted), len(predicted), seed)
    return torch.cat([order[predicted[order] == label][: int(quota[label])] for label in range(classes)])


STRATEGIES: dict[str, Callable[[Answers, int], Tensor]] = {
    "pcoreset": lambda a, n: probability_cover(a.probabilities, a.labelled_probabilities, n).picks,
    "random": lambda a, n: at_random(len(a.probabilities), n, a.seed),
    "uncertainty": lambda a, n: entropy_first(a.probabilities, n),
    "coreset": lambda a, n: feature_cover(a.embeddings, a.labelled_embeddings, n).picks,
    "badge": lambda a, n: gradient_cover(a.probabilities, a.embeddings, n).picks,
    "class-balanced": lambda a, n: class_balanced(a.probabilities, a.labels, n, a.seed),
}
