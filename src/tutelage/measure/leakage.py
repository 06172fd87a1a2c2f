"""Leakage: what the predictions give away about the training data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tutelage.measure.base import Measure
from tutelage.measure.bootstrap import RESAMPLES, Floats, mean_interval, weights
from tutelage.measure.number import Number
from tutelage.measure.predicted import Predicted
from tutelage.recipe.registry import component


@component("measure", "membership")
class Membership(Measure):
    """Membership inference by loss threshold (Yeom et al., arXiv:1709.01604): area under the ROC curve, in [0, 1].

    The chance that a training sample has a smaller loss than an unseen one; 0.5 gives nothing away. It is the weakest
    of such attacks: a value near 0.5 does not show that a stronger one fails.
    """

    group: ClassVar[str] = "leakage"
    takes: ClassVar[tuple[str, ...]] = ("train",)

    def __call__(
        self, subject: Predicted, source: Predicted | None = None, *, train: Predicted | None = None
    ) -> dict[str, Number]:
        """``membership_auc``; nothing without predictions on the training split."""
        if train is None:
            return {}
        return {"membership_auc": auc_interval(-train.losses.numpy(), -subject.losses.numpy())}


@component("measure", "backdoor")
class Backdoor(Measure):
    """Attack success: share of test samples of other classes that a trigger turns into the attacker's, in [0, 1].

    Measured on data that has a trigger, such as ``poisoned``; a clean model is near the share of its plain mistakes.
    """

    group: ClassVar[str] = "leakage"
    takes: ClassVar[tuple[str, ...]] = ("triggered",)

    def __call__(
        self, subject: Predicted, source: Predicted | None = None, *, triggered: Predicted | None = None
    ) -> dict[str, Number]:
        """``backdoor_success``; nothing without samples that bear a trigger."""
        if triggered is None:
            return {}
        return {"backdoor_success": mean_interval(triggered.correct.numpy())}


def auc_interval(positive: Floats, negative: Floats, *, resamples: int = RESAMPLES, seed: int = 0) -> Number:
    """Area under the ROC curve with its bootstrap interval, each side resampled by itself.

    Args:
        positive: ``[n]`` scores of one side; ties count half.
        negative: ``[m]`` scores of the other.
        resamples: Number of resamples.
        seed: Seed of the draws.

    Returns:
        ``n`` of the result counts both sides.
    """
    n, m = len(positive), len(negative)
    if np.isnan(positive).any() or np.isnan(negative).any():
        return Number(float("nan"), None, None, n + m)
    _, rank = np.unique(np.concatenate([positive, negative]), return_inverse=True)
    above, below = rank[:n], rank[n:]
    value = _area(above, below, np.ones(n), np.ones(m))
    # Seeds differ so that sides of equal size are not resampled alike.
    sides = zip(_rows(n, resamples, 2 * seed + 1), _rows(m, resamples, 2 * seed + 2), strict=True)
    low, high = np.quantile([_area(above, below, a, b) for a, b in sides], [0.025, 0.975])
    return Number(value, float(low), float(high), n + m)


def _area(positive: NDArray[np.int64], negative: NDArray[np.int64], left: Floats, right: Floats) -> float:
    # scikit-learn's function would sort for every resample; the ranks here are found once. The tests hold the two
    # together.
    mass = np.bincount(negative, right, minlength=int(positive.max()) + 1)
    below = np.cumsum(mass) - mass / 2
    return float(left @ below[positive] / (left.sum() * right.sum()))


def _rows(n: int, resamples: int, seed: int) -> Iterator[Floats]:
    for chunk in weights(n, resamples=resamples, seed=seed):
        yield from chunk
