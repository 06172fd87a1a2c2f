"""How much what a model says of one draw of samples differs from what it says of the next."""

from __future__ import annotations

from torch import Tensor

from tutelage.losses._numeric import raised


def draw_spread(means: Tensor) -> Tensor:
    """Standard deviation over draws of the mean predicted probabilities, averaged over classes ("T. stddev").

    Args:
        means: ``[draws, classes]``: of each draw, the mean of the teacher's probabilities over its samples.

    Returns:
        A scalar, with draws − 1 below the root.

    Raises:
        ValueError: There are fewer than two draws.

    Source: arXiv:2012.02909, section 4.
    """
    if means.ndim != 2 or len(means) < 2:
        raise ValueError(f"expected means [draws, classes] of at least two draws, got {list(means.shape)}")
    return raised(means).std(0).mean()


def pairwise_covariance(values: Tensor) -> Tensor:
    """Covariance over draws between the values of different samples: its sum over all pairs i < j, by samples².

    Args:
        values: ``[draws, samples]``, e.g. the cross-entropy of each sample in each draw.

    Returns:
        A scalar, with draws − 1 below.

    Raises:
        ValueError: There are fewer than two draws or samples.

    Source: arXiv:2012.02909, section 3 (what an augmentation must lower).
    """
    if values.ndim != 2 or min(values.shape) < 2:
        raise ValueError(f"expected values [draws, samples] of at least two each, got {list(values.shape)}")
    exact = raised(values)
    # The variance of a sum is that of its parts, and twice the covariance of each pair.
    return (exact.sum(1).var(0) - exact.var(0).sum()) / (2 * values.shape[1] ** 2)
