"""Several teachers, and a gate that says for each sample which of them it learns from."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from tutelage.losses._numeric import raised
from tutelage.losses.divergences import kl_divergence


def load_balance(gates: Tensor, *, kind: Literal["kl", "cv"] = "kl") -> Tensor:
    """How unevenly a gate spreads its samples over teachers.

    Args:
        gates: ``[batch, teachers]`` probabilities.
        kind: ``kl``: KL(uniform ‖ mean gate) / teachers; ``cv``: standard deviation over mean of the gates' sums (with
            the n − 1 estimate).

    Returns:
        A scalar, at least 0: 0 where all teachers have the same share.

    Raises:
        ValueError: The gates are not a matrix of two teachers or more, or the kind is unknown.

    Source: arXiv:2507.07015's code.
    """
    if gates.ndim != 2 or gates.shape[1] < 2:
        raise ValueError(f"gates must be [batch, teachers] for two teachers or more, got {list(gates.shape)}")
    gates = raised(gates)
    count = gates.shape[1]
    if kind == "kl":
        mean = gates.mean(0).clamp(min=torch.finfo(gates.dtype).tiny)
        return (-math.log(count) - mean.log()).mean() / count
    if kind == "cv":
        total = gates.sum(0)
        return total.std() / total.mean()
    raise ValueError(f"kind must be 'kl' or 'cv', got {kind!r}")


def routed_divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    gates: Tensor,
    *,
    k: int = 1,
    temperature: float = 4.0,
    weighted: bool = False,
) -> Tensor:
    """Mean divergence from the k teachers that each sample's gate prefers: mean over them of T² KL(t / T ‖ s / T).

    Which teachers they are carries no gradient, so that the gate learns from this only where ``weighted``.

    Args:
        student_logits: ``[batch, classes]``.
        teacher_logits: ``[batch, teachers, classes]``; detached.
        gates: ``[batch, teachers]`` probabilities.
        k: How many teachers a sample learns from.
        temperature: T, above 0, for both sides.
        weighted: Multiply each divergence by the probability of its teacher.

    Returns:
        ``[batch]``, at least 0.

    Raises:
        ValueError: The shapes do not fit, or k is not in [1, teachers].

    Source: arXiv:2507.07015, section 3.
    """
    batch, classes = student_logits.shape
    teachers = gates.shape[-1]
    if teacher_logits.shape != (batch, teachers, classes) or gates.shape != (batch, teachers):
        raise ValueError(
            f"student logits {list(student_logits.shape)} and gates {list(gates.shape)} do not fit teacher logits "
            f"{list(teacher_logits.shape)}; expected [batch, classes], [batch, teachers], [batch, teachers, classes]"
        )
    if not 1 <= k <= teachers:
        raise ValueError(f"k must lie in [1, {teachers}] for {teachers} teachers, got {k}")
    chosen = gates.detach().topk(k, dim=-1).indices
    theirs = teacher_logits.detach().gather(1, chosen[:, :, None].expand(-1, -1, classes))
    ours = student_logits[:, None, :].expand_as(theirs)
    apart = kl_divergence(ours, theirs, temperature=temperature)
    return (apart * gates.gather(1, chosen) if weighted else apart).mean(1)
