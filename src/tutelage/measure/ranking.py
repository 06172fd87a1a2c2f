"""How well a score that costs nothing ranks what costs a training to know."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def rank_agreement(
    score: ArrayLike, truth: ArrayLike, *, shares: Sequence[float] = (0.1, 0.5)
) -> dict[str, float | None]:
    """Rank correlations of a score with what it is to predict, higher being better on both sides.

    Args:
        score: ``[n]``, n >= 2.
        truth: ``[n]``.
        shares: For each, in (0, 1], the share of the truly best so many that are among the predicted best so many.

    Returns:
        ``kendall`` (τ_b), ``spearman``, ``pearson``; ``None`` where a side does not vary. ``top_10`` for a share of
        0.1, and ``best_of_top_10``, the true rank, 1 the best, of the best among the predicted best.

    Raises:
        ValueError: The lengths differ, or there are fewer than two.
    """
    from scipy import stats

    ours, real = np.asarray(score, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if ours.shape != real.shape or ours.ndim != 1 or len(ours) < 2:
        raise ValueError(
            f"ranks need two lists of one length, at least 2, not {list(ours.shape)} and {list(real.shape)}"
        )
    varies = len(np.unique(ours)) > 1 and len(np.unique(real)) > 1
    found: dict[str, float | None] = {"kendall": None, "spearman": None, "pearson": None}
    if varies:
        found["kendall"] = float(stats.kendalltau(ours, real).statistic)
        found["spearman"] = float(stats.spearmanr(ours, real).statistic)
        found["pearson"] = float(stats.pearsonr(ours, real).statistic)
    # Stable, so that ties are broken by place and not by chance.
    predicted, best = np.argsort(-ours, kind="stable"), np.argsort(-real, kind="stable")
    place = np.empty(len(real), dtype=np.int64)
    place[best] = np.arange(1, len(real) + 1)
    for share in shares:
        count = max(1, math.ceil(share * len(real)))
        name = f"{round(100 * share)}"
        found[f"top_{name}"] = len(set(predicted[:count]) & set(best[:count])) / count
        found[f"best_of_top_{name}"] = float(place[predicted[:count]].min())
    return found


def summed_ranks(scores: Sequence[Sequence[float]]) -> list[float]:
    """One score of several whose sizes do not compare: the sum of each one's ranks, higher being better.

    Args:
        scores: Lists of one length, one a score.
    """
    from scipy import stats

    return [float(sum(ranks)) for ranks in zip(*(stats.rankdata(each) for each in scores), strict=True)]
