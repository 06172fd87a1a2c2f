"""How two encoders attend: distances of attention probabilities and scores, and what a ranking keeps."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.losses._numeric import raised, same_shape


def attention_divergence(student: Tensor, teacher: Tensor, lengths: Tensor | None = None) -> Tensor:
    """KL(teacher ‖ student) of attention rows, averaged over a sample's queries and over heads.

    (1 / len) Σ_{i,j < len} p_ij (log p_ij − log q_ij), both clamped to at least 1e-8; rows and columns beyond a
    sample's length do not count.

    Args:
        student: ``[batch, heads, queries, keys]`` probabilities q, before dropout.
        teacher: The same of the teacher, p.
        lengths: ``[batch]`` tokens that are no padding; ``None``: all.

    Returns:
        ``[batch]``.

    Raises:
        ValueError: The shapes do not fit.

    Source: arXiv:2211.11014, equation 7.
    """
    same_shape(student, teacher, "attention probabilities")
    if student.ndim != 4:
        raise ValueError(f"attention is {list(student.shape)}; expected [batch, heads, queries, keys]")
    q, p = raised(student).clamp(min=1e-8), raised(teacher).clamp(min=1e-8)
    terms = p * (p.log() - q.log())
    if lengths is None:
        return terms.sum((2, 3)).mean(1) / student.shape[2]
    if lengths.shape != student.shape[:1]:
        raise ValueError(f"lengths are {list(lengths.shape)}; expected [{len(student)}], one for each sample")
    rows = torch.arange(student.shape[2], device=student.device) < lengths[:, None]
    keys = torch.arange(student.shape[3], device=student.device) < lengths[:, None]
    real = rows[:, None, :, None] & keys[:, None, None, :]
    return terms.masked_fill(~real, 0.0).sum((2, 3)).mean(1) / lengths


def score_distance(student: Tensor, teacher: Tensor, *, floor: float = -100.0) -> Tensor:
    """Mean squared difference of attention scores, masked entries left out on both sides (TernaryBERT).

    Unlike a divergence of probabilities it minds a shift that the softmax ignores.

    Args:
        student: ``[batch, heads, queries, keys]`` scores, before the softmax.
        teacher: The same of the teacher.
        floor: Scores at or below it are masked, and taken for 0.

    Returns:
        ``[batch]``.

    Raises:
        ValueError: The shapes differ.

    Source: arXiv:2009.12812.
    """
    same_shape(student, teacher, "attention scores")
    ours, theirs = (raised(side).masked_fill(side <= floor, 0.0) for side in (student, teacher))
    return (ours - theirs).square().flatten(1).mean(1)


def ranking_coverage(student: Tensor, teacher: Tensor, *, top: int = 5) -> Tensor:
    """How far down the student's ranking of keys one must go to meet all of the teacher's first ones.

    Args:
        student: ``[..., keys]`` probabilities or scores.
        teacher: The same of the teacher.
        top: How many of the teacher's keys; at most the keys.

    Returns:
        ``[...]`` shares of the keys, in [top / keys, 1].

    Raises:
        ValueError: The shapes differ, or there are fewer keys.

    Source: arXiv:2211.11014, section 3 (ranking loss).
    """
    same_shape(student, teacher, "rankings")
    keys = student.shape[-1]
    if not 1 <= top <= keys:
        raise ValueError(f"top must lie in [1, {keys}] for {keys} keys, got {top}")
    place = student.argsort(dim=-1, descending=True, stable=True).argsort(-1)
    first = teacher.topk(top, -1).indices
    last: Tensor = place.gather(-1, first).amax(-1)
    return (last + 1) / keys


def norm_attention(probabilities: Tensor, values: Tensor, output_weight: Tensor) -> Tensor:
    """‖p_ij (v_j W_o)‖: what each key really adds to a query, by head.

    Args:
        probabilities: ``[batch, heads, queries, keys]``.
        values: ``[batch, heads, keys, width]``.
        output_weight: ``[model width, heads · width]``, of the layer that joins the heads.

    Returns:
        ``[batch, heads, queries, keys]``.

    Raises:
        ValueError: The shapes do not fit.

    Source: arXiv:2004.10102, as used by arXiv:2211.11014.
    """
    heads, width = values.shape[1], values.shape[3]
    if output_weight.shape[1] != heads * width or probabilities.shape[1] != heads:
        shapes = f"{list(probabilities.shape)}, {list(values.shape)} and {list(output_weight.shape)}"
        raise ValueError(f"probabilities, values and weight are {shapes}; they are not of the same heads")
    parts = raised(output_weight).unflatten(1, (heads, width))
    sizes: Tensor = torch.einsum("bhkw,dhw->bhkd", raised(values), parts).norm(dim=-1)
    return raised(probabilities) * sizes[:, :, None, :]
