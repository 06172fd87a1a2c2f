"""Telling a sample's own partner from the partners of others, by the scores that a critic gives to pairs.

Scores are any real numbers; what scores and what it is asked about is the caller's. float32 or better inside.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from tutelage.losses._numeric import raised


def noise_contrast(positive: Tensor, negatives: Tensor, *, total: int, mask: Tensor | None = None) -> Tensor:
    """NCE: −log D(own) − Σ log(1 − D(other)), with D = e^g / (e^g + M / N).

    M is the number of others, N that of the samples they are drawn from. log M minus its mean is a lower bound of the
    mutual information of the two sides.

    Args:
        positive: ``[batch]`` scores g of a sample's own partner.
        negatives: ``[batch, others]`` scores of others.
        total: N, at least 1.
        mask: ``[batch, others]``, true for what counts; M is then the number of those, at least 1.

    Returns:
        ``[batch]`` nats, above 0.

    Raises:
        ValueError: The shapes do not fit, there are no others, or N is below 1.

    Source: arXiv:1910.10699, equations 8 to 10; arXiv:2012.08674, section 3.
    """
    _scores(positive, negatives)
    if total < 1:
        raise ValueError(f"total must be at least 1, got {total}")
    if mask is not None and mask.shape != negatives.shape:
        raise ValueError(f"the mask is {list(mask.shape)} and the negatives {list(negatives.shape)}; expected the same")
    own, others = raised(positive), raised(negatives)
    if mask is None:
        shift = math.log(negatives.shape[1] / total)
        return -logsigmoid(own - shift) - logsigmoid(shift - others).sum(1)
    shifts = mask.sum(1).clamp(min=1).to(own.dtype).div(total).log()
    apart = torch.where(mask, logsigmoid(shifts[:, None] - others), 0.0).sum(1)
    return -logsigmoid(own - shifts) - apart


def critic_gap(positive: Tensor, negatives: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Wasserstein's dual: mean score of others less that of the own partner; bounded only for a Lipschitz critic.

    Args:
        positive: ``[batch]`` scores of a sample's own partner.
        negatives: ``[batch, others]`` scores of others.
        mask: ``[batch, others]``, true for what counts.

    Returns:
        ``[batch]``; its mean is the loss.

    Raises:
        ValueError: The shapes do not fit, or there are no others.

    Source: arXiv:2012.08674, section 3 (Kantorovich and Rubinstein).
    """
    _scores(positive, negatives)
    others = raised(negatives)
    if mask is None:
        return others.mean(1) - raised(positive)
    return torch.where(mask, others, 0.0).sum(1) / mask.sum(1).clamp(min=1) - raised(positive)


def _scores(positive: Tensor, negatives: Tensor) -> None:
    if positive.dim() != 1 or negatives.dim() != 2 or len(positive) != len(negatives) or not negatives.shape[1]:
        raise ValueError(
            f"contrast needs [batch] and [batch, others] scores with at least one other, got {list(positive.shape)} "
            f"and {list(negatives.shape)}"
        )
