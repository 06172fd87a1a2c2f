"""Calibration: whether a confidence of 0.8 is right four times in five."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from tutelage.measure.base import Measure
from tutelage.measure.bootstrap import Floats, interval
from tutelage.measure.number import Number
from tutelage.measure.predicted import Predicted
from tutelage.recipe.registry import component


@dataclass(frozen=True)
class Reliability:
    """The points of a reliability diagram, one a bin that holds samples.

    Args:
        confidence: ``[bins]`` mean confidence, in [0, 1].
        accuracy: ``[bins]`` share of right predictions, in [0, 1].
        count: ``[bins]`` number of samples.
    """

    confidence: Floats
    accuracy: Floats
    count: NDArray[np.int64]


@component("measure", "calibration")
class Calibration(Measure):
    """Expected calibration error of the predicted class (Guo et al., arXiv:1706.04599, equation 3), in [0, 1].

    ``ece`` has bins of equal width, ``adaptive_ece`` bins of equal numbers of samples (Nixon et al.,
    arXiv:1904.01685). Under resampling the bins stay as they are in the sample.

    Args:
        bins: Number of bins.
    """

    group: ClassVar[str] = "calibration"

    def __init__(self, *, bins: Annotated[int, Ge(1)] = 15) -> None:
        self.bins = bins

    def __call__(self, subject: Predicted, source: Predicted | None = None) -> dict[str, Number]:
        """Both errors, with their bootstrap intervals."""
        confidence, correct = _confidence(subject)
        # Our own formula rather than torchmetrics': the interval needs it under a thousand weightings at once, and
        # importing that library costs two seconds. The tests hold the two against each other.
        return {
            "ece": _error(confidence, correct, equal_width(confidence, self.bins)),
            "adaptive_ece": _error(confidence, correct, equal_mass(confidence, self.bins)),
        }


def equal_width(confidence: Floats, bins: int) -> NDArray[np.int64]:
    """The bin of each confidence ``[n]`` in [0, 1]; a bin holds its lower edge, and the last one also holds 1."""
    edges = np.linspace(0, 1, bins + 1)
    return np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, bins - 1).astype(np.int64)


def equal_mass(confidence: Floats, bins: int) -> NDArray[np.int64]:
    """The bin of each confidence ``[n]``: bins of equal numbers of samples (to one) in order of confidence."""
    ranks = np.empty(len(confidence), dtype=np.int64)
    ranks[np.argsort(confidence, kind="stable")] = np.arange(len(confidence))
    return ranks * bins // len(confidence)


def reliability(subject: Predicted, bins: int = 15) -> Reliability:
    """The reliability diagram of a model's predictions over bins of equal width."""
    confidence, correct = _confidence(subject)
    valid = ~np.isnan(confidence)
    confidence, correct = confidence[valid], correct[valid]
    bin_of = equal_width(confidence, bins)
    count = np.bincount(bin_of, minlength=bins)
    filled = count > 0
    return Reliability(
        np.bincount(bin_of, confidence, minlength=bins)[filled] / count[filled],
        np.bincount(bin_of, correct, minlength=bins)[filled] / count[filled],
        count[filled].astype(np.int64),
    )


def _confidence(subject: Predicted) -> tuple[Floats, Floats]:
    top = subject.probabilities.amax(dim=1).numpy()
    return top, subject.correct.numpy().astype(np.float64)


def _error(confidence: Floats, correct: Floats, bin_of: NDArray[np.int64]) -> Number:
    n = len(confidence)
    if np.isnan(confidence).any():
        return Number(float("nan"), None, None, n)
    filled, column = np.unique(bin_of, return_inverse=True)
    # Each bin's share times its gap is the sum of (accuracy - confidence) over its samples, divided by n: one matrix
    # product.
    gaps = np.zeros((n, len(filled)))
    gaps[np.arange(n), column] = correct - confidence
    return interval(lambda weights: np.abs(weights @ gaps).sum(axis=1) / n, n, floor=0.0)


def calibration_error(
    confidence: Floats,
    correct: Floats,
    *,
    bins: int | None = 15,
    scheme: Literal["width", "mass"] = "width",
    proxy: Literal["mean", "upper"] = "mean",
) -> float:
    """Expected calibration error under any of the schemes in use; values of different schemes must not be compared.

    Args:
        confidence: ``[n]`` in [0, 1].
        correct: ``[n]`` of 0 and 1.
        bins: Number of bins; ``None`` for one fewer than samples, at most 100 (arXiv:2406.08226).
        scheme: Bins of equal width, or of equal numbers of samples.
        proxy: What a bin's confidence is: its mean, or its upper edge (of equal numbers: its largest confidence).

    Raises:
        ValueError: The lengths differ, or there is nothing.
    """
    sure, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if sure.ndim != 1 or sure.shape != right.shape or not len(sure):
        raise ValueError(f"expected confidence and correctness [n], got {list(sure.shape)} and {list(right.shape)}")
    count = max(1, min(len(sure) - 1, 100)) if bins is None else bins
    bin_of = equal_width(sure, count) if scheme == "width" else equal_mass(sure, count)
    error = 0.0
    for one in np.unique(bin_of):
        inside = bin_of == one
        said = sure[inside].mean()
        if proxy == "upper":
            said = (one + 1) / count if scheme == "width" else sure[inside].max()
        error += inside.mean() * abs(right[inside].mean() - said)
    return float(error)
