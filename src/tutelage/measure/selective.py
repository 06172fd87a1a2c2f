"""Selective prediction: how well confidence says which answers to keep (arXiv:1705.08500; arXiv:2211.15259)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.measure.base import Measure
from tutelage.measure.bootstrap import Floats
from tutelage.measure.leakage import auc_interval
from tutelage.measure.number import Number
from tutelage.measure.predicted import Predicted
from tutelage.recipe.registry import component

Ties = Literal["merged", "released", "mean"]


def aurc(confidence: ArrayLike, correct: ArrayLike, *, ties: Ties = "merged") -> float:
    """Area under the risk-coverage curve: the error among the most confident, over all shares of them; lower is better.

    Args:
        confidence: ``[n]``.
        correct: ``[n]`` bool or 0 and 1.
        ties: ``merged``: equal confidences are kept or left out together, and the curve is joined by straight lines;
            ``released``: as the code of arXiv:2211.15259 does it, where the first of equal ones makes a point of the
            curve, so that the value depends on their order; ``mean``: the mean of the risks at all n coverages.

    Returns:
        In [0, 1]. For ``merged``, the curve goes on level below the smallest coverage, as everything kept there has
        one risk.

    Raises:
        ValueError: The lengths differ, or there is nothing.
    """
    sure, right = _both(confidence, correct)
    # Of equal ones, the published code leaves out the first first; the mean, like any ranking, the last.
    order = np.argsort(sure, kind="stable") if ties == "released" else np.argsort(-sure, kind="stable")[::-1]
    sure, wrong, n = sure[order], 1.0 - right[order], len(sure)
    # risks[k]: among what is left once the k least confident are gone.
    risks = (wrong.sum() - np.concatenate([[0.0], np.cumsum(wrong)[:-1]])) / np.arange(n, 0, -1)
    if ties == "mean":
        return float(risks.mean())
    if ties == "released":
        ends = [k for k in range(1, n) if k == 1 or sure[k - 1] != sure[k - 2]]
    else:
        ends = [k for k in range(1, n) if sure[k] != sure[k - 1]]
    at = [0, *ends]
    area = sum((b - a) / n * (risks[a] + risks[b]) / 2 for a, b in itertools.pairwise(at))
    if ties == "merged":
        area += (n - at[-1]) / n * risks[at[-1]]
    elif at[-1] != n - 1:
        area += (n - 1 - at[-1]) / n * risks[at[-1]]
    return float(area)


def coverage_accuracy(confidence: ArrayLike, correct: ArrayLike, coverages: Sequence[float]) -> list[float]:
    """Accuracy among the most confident share, for each share in (0, 1]; of equal confidences, the first are kept.

    Raises:
        ValueError: The lengths differ, or there is nothing.
    """
    sure, right = _both(confidence, correct)
    best = right[np.argsort(-sure, kind="stable")]
    return [float(best[: max(1, round(share * len(best)))].mean()) for share in coverages]


def error_detection(confidence: ArrayLike, correct: ArrayLike) -> Number | None:
    """Chance that a right answer is more confident than a wrong one (AUROC); ``None`` where there are not both."""
    sure, right = _both(confidence, correct)
    if right.all() or not right.any():
        return None
    return auc_interval(sure[right == 1], sure[right == 0])


@component("measure", "selective")
class Selective(Measure):
    """Selective prediction by the largest probability: ``aurc`` (lower is better), and ``error_auroc``.

    Args:
        ties: How equal confidences are treated, see `aurc`.
    """

    group: ClassVar[str] = "calibration"

    def __init__(self, *, ties: Ties = "merged") -> None:
        self.ties = ties

    def __call__(self, subject: Predicted, source: Predicted | None = None) -> dict[str, Number]:
        """The area, without an interval, and the chance that a wrong answer is the less confident, if there are any."""
        confidence = subject.probabilities.amax(dim=1).numpy()
        correct = subject.correct.numpy()
        if np.isnan(confidence).any():
            return {"aurc": Number(float("nan"), None, None, len(confidence))}
        found = {"aurc": Number(aurc(confidence, correct, ties=self.ties), None, None, len(confidence))}
        detection = error_detection(confidence, correct)
        return found if detection is None else {**found, "error_auroc": detection}


def _both(confidence: ArrayLike, correct: ArrayLike) -> tuple[Floats, NDArray[np.float64]]:
    sure, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if sure.ndim != 1 or sure.shape != right.shape or not len(sure):
        raise ValueError(f"expected confidence and correctness [n], got {list(sure.shape)} and {list(right.shape)}")
    return sure, right
