"""Experts of one network that teach each other on long-tailed data (SHIKE, arXiv:2304.01279, CVPR 2023).

Expert logits are ``[experts, batch, classes]``. Sums over experts and classes are never divided by their numbers; the
released code's element means are these values divided by the number of classes.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from tutelage.losses._numeric import log_probabilities, raised, relative_entropy
from tutelage.losses.divergences import cross_entropy


def mutual_divergence(expert_logits: Tensor, *, detach_teacher: bool = False) -> Tensor:
    """Σ over pairs of experts i ≠ j of KL(softmax z_j ‖ softmax z_i).

    Args:
        expert_logits: ``[experts, batch, classes]``.
        detach_teacher: Let no gradient flow to the side that teaches; the released code lets it.

    Returns:
        ``[batch]``, at least 0; 0 where all experts agree.

    Raises:
        ValueError: The logits have another shape.

    Source: arXiv:2304.01279, mutual distillation.
    """
    _check(expert_logits)
    student = log_probabilities(expert_logits)
    teacher = student.detach() if detach_teacher else student
    # Of an expert with itself it is 0, with a gradient of 0 on either side.
    return relative_entropy(teacher[None], student[:, None]).sum((0, 1))


def grand_teacher(expert_logits: Tensor, labels: Tensor) -> Tensor:
    """Logits that hold the hardest wrong class down: there the experts' mean, at other wrong classes their largest.

    Args:
        expert_logits: ``[experts, batch, classes]``, at least 2 classes.
        labels: ``[batch]`` int64 class indices.

    Returns:
        ``[batch, classes]``, 0 at the label, as in the released code.

    Raises:
        ValueError: The shapes do not fit or the labels are no indices.

    Source: arXiv:2304.01279, hardest negative suppression.
    """
    place = _place(expert_logits, labels)
    logits = raised(expert_logits)
    mean = logits.mean(0)
    hardest = mean.scatter(-1, place, float("-inf")).argmax(-1, keepdim=True)
    teacher = logits.amax(0).scatter(-1, hardest, mean.gather(-1, hardest))
    return teacher.scatter(-1, place, 0.0)


def hardest_negative_suppression(
    expert_logits: Tensor,
    labels: Tensor,
    *,
    target: Literal["released", "excluded"] = "released",
    detach_teacher: bool = False,
) -> Tensor:
    """Σ over experts of KL(grand teacher ‖ expert) about the wrong classes.

    Args:
        expert_logits: ``[experts, batch, classes]``, at least 2 classes.
        labels: ``[batch]`` int64 class indices.
        target: The label's class has logit 0 in the grand teacher and −30 in the expert (``released``), which are not
            the same; or it is left out of both distributions (``excluded``).
        detach_teacher: Let no gradient flow to the grand teacher; the released code lets it.

    Returns:
        ``[batch]``, at least 0.

    Raises:
        ValueError: The shapes do not fit, the labels are no indices, or ``target`` is unknown.

    Source: arXiv:2304.01279, hardest negative suppression.
    """
    if target not in ("released", "excluded"):
        raise ValueError(f"target must be 'released' or 'excluded', got {target!r}")
    place = _place(expert_logits, labels)
    teacher = grand_teacher(expert_logits, labels)
    if detach_teacher:
        teacher = teacher.detach()
    if target == "excluded":
        teacher = teacher.scatter(-1, place, float("-inf"))
    experts = raised(expert_logits)
    outside = -30.0 if target == "released" else float("-inf")
    student = experts.scatter(-1, place.expand(len(experts), -1, 1), outside)
    return relative_entropy(log_probabilities(teacher), log_probabilities(student)).sum(0)


def balanced_cross_entropy(logits: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """Cross-entropy of logits + log n_c: what is learnt is right for classes that are equally frequent.

    Args:
        logits: ``[..., classes]``.
        labels: ``[...]`` int64 class indices, or ``[..., classes]`` distributions.
        counts: ``[classes]``, at least 0: training samples of each class; a class without any is impossible here.

    Returns:
        ``[...]``, at least 0; the plain cross-entropy where all counts are equal.

    Raises:
        ValueError: The shapes do not fit.

    Source: balanced softmax, arXiv:2007.10740.
    """
    if counts.shape != logits.shape[-1:]:
        raise ValueError(f"logits are {list(logits.shape)} and counts {list(counts.shape)}; expected a count a class")
    return cross_entropy(raised(logits) + counts.to(logits.device).float().log(), labels)


def _check(expert_logits: Tensor) -> None:
    if expert_logits.ndim != 3:
        raise ValueError(f"expert logits must be [experts, batch, classes], got {list(expert_logits.shape)}")


def _place(expert_logits: Tensor, labels: Tensor) -> Tensor:
    """``[batch, 1]``: the labels."""
    _check(expert_logits)
    if labels.is_floating_point() or labels.shape != expert_logits.shape[1:2]:
        wanted = f"[{expert_logits.shape[1]}] class indices"
        raise ValueError(f"hardest negatives need {wanted}, got {labels.dtype} {list(labels.shape)}")
    if expert_logits.shape[-1] < 2:
        raise ValueError("one class has no negatives; expected at least 2 classes")
    return labels.long().unsqueeze(-1)
