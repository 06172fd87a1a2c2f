"""How sharp outputs are, and a teacher's outputs set right (arXiv:2205.15308)."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.losses._numeric import raised


def sharpness(logits: Tensor) -> Tensor:
    """S(z) = log Σ exp(z): the gap between a teacher's and its student's is what the student cannot follow.

    Args:
        logits: ``[..., classes]``.

    Returns:
        ``[...]``.

    Source: arXiv:2205.15308, the sharpness gap.
    """
    return torch.logsumexp(raised(logits), dim=-1)


def corrected(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits whose largest value is the label's: it changes places with what the label had.

    Args:
        logits: ``[batch, classes]``; detached.
        labels: ``[batch]`` class indices.

    Returns:
        ``[batch, classes]``: the same values in each row; rows that were right stay as they are.

    Raises:
        ValueError: The labels are not class indices, one a sample.
    """
    if labels.is_floating_point() or labels.shape != logits.shape[:1]:
        raise ValueError(f"corrected needs {len(logits)} class indices, got {labels.dtype} {list(labels.shape)}")
    logits, place = logits.detach(), labels.unsqueeze(-1)
    top = logits.argmax(-1, keepdim=True)
    return logits.scatter(-1, top, logits.gather(-1, place)).scatter(-1, place, logits.gather(-1, top))
