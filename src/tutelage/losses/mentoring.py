"""Mentors ranked against their student: who may teach, how loudly, how softly (ClassroomKD, arXiv:2409.20237)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tutelage.losses._numeric import raised, relative_entropy, same_shape


class Mentoring(NamedTuple):
    """What each mentor does; nothing in it has a gradient.

    Args:
        weights: ``[mentors, ...]``: weight of its divergence, 0 where it is silent.
        temperatures: ``[mentors, ...]``: at least 1.
        active: ``[mentors, ...]`` bool: whether it teaches.
    """

    weights: Tensor
    temperatures: Tensor
    active: Tensor


def rank_mentors(
    mentor_scores: Tensor,
    student_scores: Tensor,
    *,
    tau_max: float = 12.0,
    select: Literal["filter", "all", "uniform", "best"] = "filter",
    round_shares: bool = False,
) -> Mentoring:
    """Rank mentors and student, silence the mentors that are below the student, soften the others by the gap.

    With scores a: weight w_k = mentors · a_k / Σ a over mentors and student; mentor k is active iff w_k ≥ w_s; gap
    δ = (w_k − w_s) / max(w_k, w_s), which is 0 where a mentor teaches from below; temperature 1 + δ · tau_max.

    Args:
        mentor_scores: ``[mentors, ...]``, at least 0: e.g. the probability of the label, of each sample or of a batch.
        student_scores: ``[...]``, at least 0.
        tau_max: What a gap of 1 adds to the temperature, at least 0.
        select: ``filter`` as above; without a filter, ``all`` mentors with weight 1 or ``uniform``-ly with 1 / mentors;
            or only the ``best`` one, with its weight.
        round_shares: Round a_k / Σ a to two decimals first, as the released code does.

    Raises:
        ValueError: The shapes do not fit, there is no mentor, ``tau_max`` is negative, or ``select`` is unknown.

    Source: arXiv:2409.20237, knowledge filtering and mentoring.
    """
    if mentor_scores.shape[1:] != student_scores.shape or not len(mentor_scores):
        shapes = f"the mentors' scores are {list(mentor_scores.shape)} and the student's {list(student_scores.shape)}"
        raise ValueError(f"{shapes}; expected [mentors, ...] of one mentor or more, and [...]")
    if tau_max < 0:
        raise ValueError(f"tau_max must be at least 0, got {tau_max}")
    scores = raised(torch.cat([mentor_scores, student_scores[None]])).detach()
    # Where nobody is any good, all are equally good.
    shares = torch.where(scores.sum(0) > 0, scores / scores.sum(0), 1 / len(scores))
    if round_shares:
        shares = (shares * 100).round() / 100
    weights = len(mentor_scores) * shares
    mentors, student = weights[:-1], weights[-1]
    gap = ((mentors - student) / torch.maximum(mentors, student).clamp(min=torch.finfo(weights.dtype).tiny)).clamp(0)
    if select == "filter":
        active = mentors >= student
    elif select == "best":
        active = torch.zeros_like(mentors, dtype=torch.bool).scatter(0, mentors.argmax(0, keepdim=True), True)
    elif select in ("all", "uniform"):
        active = torch.ones_like(mentors, dtype=torch.bool)
        mentors = torch.ones_like(mentors) / (len(mentors) if select == "uniform" else 1)
    else:
        raise ValueError(f"select must be 'filter', 'all', 'uniform' or 'best', got {select!r}")
    return Mentoring(mentors * active, 1 + gap * tau_max, active)


def relative_temperatures(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 4.0
) -> tuple[Tensor, Tensor]:
    """DTKD's temperatures: 2 T max z_S / (max z_S + max z_T) for the student, and the other way round for the teacher.

    They sum to 2 T, and the sharper side is softened more. The rule means largest logits above 0; they are raised to
    0.01 where they are not.

    Args:
        student_logits: ``[..., classes]``; detached.
        teacher_logits: ``[..., classes]``; detached.
        temperature: T, above 0.

    Returns:
        ``(student, teacher)``, each ``[...]``, above 0.

    Raises:
        ValueError: The temperature is not positive.

    Source: the variant in arXiv:2409.20237's code.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    student, teacher = (raised(z.detach()).amax(-1).clamp(min=0.01) for z in (student_logits, teacher_logits))
    return 2 * temperature * student / (student + teacher), 2 * temperature * teacher / (student + teacher)


def tempered_divergence(
    student_logits: Tensor, teacher_logits: Tensor, student_temperature: Tensor, teacher_temperature: Tensor
) -> Tensor:
    """T_S · T_T · KL(softmax(teacher / T_T) ‖ softmax(student / T_S)) with a temperature for each row.

    Args:
        student_logits: ``[..., classes]``.
        teacher_logits: ``[..., classes]``; not detached.
        student_temperature: ``[...]`` or what broadcasts to it, above 0.
        teacher_temperature: Likewise.

    Returns:
        ``[...]``, at least 0.

    Raises:
        ValueError: The shapes differ or a temperature is not positive.
    """
    same_shape(student_logits, teacher_logits, "logits")
    if not bool((student_temperature > 0).all()) or not bool((teacher_temperature > 0).all()):
        raise ValueError("every temperature must be above 0")
    student, teacher = (
        (raised(z) / t.unsqueeze(-1)).log_softmax(-1)
        for z, t in ((student_logits, student_temperature), (teacher_logits, teacher_temperature))
    )
    return student_temperature * teacher_temperature * relative_entropy(teacher, student)
