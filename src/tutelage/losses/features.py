"""Intermediate features: hints, attention maps, flows, hidden states of transformers.

Nothing is detached: a teacher's forward pass without gradients is the caller's. Student features of another width go
through a trained projector first, which belongs to the method. float32 or better inside, also under autocast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from tutelage.losses._numeric import cosine, flat, product, raised, same_shape, unit
from tutelage.losses.masks import mask_mean

_PROJECT = "; project the student's to the teacher's width first"


def hint(student: Tensor, teacher: Tensor) -> Tensor:
    """FitNet's hint: ½ ‖teacher − student‖², summed over all features of a sample.

    Args:
        student: ``[batch, ...]``, after the regressor.
        teacher: ``[batch, ...]`` of the same shape.

    Returns:
        ``[batch]``, at least 0.

    Raises:
        ValueError: The shapes differ.

    Source: arXiv:1412.6550, equation 3.
    """
    same_shape(student, teacher, "features", _PROJECT)
    return 0.5 * (flat(student) - flat(teacher)).square().sum(-1)


def attention_map(features: Tensor, *, exponent: float = 2.0) -> Tensor:
    """Where a layer looks: Σ over channels of |activation|^p, brought to length 1 over positions.

    Args:
        features: ``[batch, channels, height, width]`` or ``[batch, tokens, width]``.
        exponent: p, at least 1.

    Returns:
        ``[batch, positions]``, at least 0, rows of length 1 (0 where nothing is active).

    Raises:
        ValueError: The features have neither form, or the exponent is below 1.

    Source: arXiv:1612.03928, section 3.1.
    """
    if exponent < 1:
        raise ValueError(f"exponent must be at least 1, got {exponent}")
    if features.dim() not in (3, 4):
        form = "[batch, channels, height, width] or [batch, tokens, width]"
        raise ValueError(f"attention_map needs {form}, got {list(features.shape)}")
    energy = raised(features).abs().pow(exponent).sum(1 if features.dim() == 4 else -1)
    return unit(energy.flatten(1))


def attention_transfer(student: Tensor, teacher: Tensor, *, exponent: float = 2.0, squared: bool = True) -> Tensor:
    """Distance between attention maps; the channels may differ in number, the positions must agree.

    Args:
        student: ``[batch, channels, height, width]`` or ``[batch, tokens, width]``.
        teacher: The same form and positions.
        exponent: Power of the attention map, at least 1.
        squared: Mean over positions of the squared difference, which the usual weight of 1000 assumes; otherwise the
            length of the difference, as the paper's equation has it (its factor β / 2 is the method's weight).

    Returns:
        ``[batch]``: in [0, 2 / positions] squared, in [0, √2] otherwise.

    Raises:
        ValueError: The positions differ, or see ``attention_map``.

    Source: arXiv:1612.03928, equation 2.
    """
    ours, theirs = attention_map(student, exponent=exponent), attention_map(teacher, exponent=exponent)
    same_shape(ours, theirs, "attention maps", "; pool the larger feature map first")
    apart = (ours - theirs).square()
    return apart.mean(-1) if squared else torch.linalg.vector_norm(ours - theirs, dim=-1)


def flow_matrix(first: Tensor, last: Tensor) -> Tensor:
    """FSP matrix: inner products between the channels of two layers, over the number of positions.

    Args:
        first: ``[batch, channels, height, width]``.
        last: ``[batch, other channels, height, width]``; the larger of the two maps is max-pooled to the smaller.

    Returns:
        ``[batch, channels, other channels]``.

    Raises:
        ValueError: The features are not feature maps.

    Source: Yim et al., A Gift from Knowledge Distillation, CVPR 2017, equation 1.
    """
    if first.dim() != 4 or last.dim() != 4:
        got = f"{list(first.shape)} and {list(last.shape)}"
        raise ValueError(f"flow_matrix needs [batch, channels, height, width] twice, got {got}")
    size = (min(first.shape[2], last.shape[2]), min(first.shape[3], last.shape[3]))
    start, end = (
        raised(layer if layer.shape[2:] == size else adaptive_max_pool2d(layer, size)).flatten(2)
        for layer in (first, last)
    )
    return product(start, end.transpose(1, 2)) / start.shape[-1]


def flow_of_solution(
    student_first: Tensor, student_last: Tensor, teacher_first: Tensor, teacher_last: Tensor
) -> Tensor:
    """FSP: squared distance between the flow matrices of student and teacher, summed over entries.

    Args:
        student_first: ``[batch, channels, height, width]``.
        student_last: ``[batch, other channels, height, width]``.
        teacher_first: As the student's in channels, not in size.
        teacher_last: As the student's in channels, not in size.

    Returns:
        ``[batch]``, at least 0.

    Raises:
        ValueError: The flow matrices differ in shape.

    Source: Yim et al., A Gift from Knowledge Distillation, CVPR 2017, equation 2.
    """
    ours, theirs = flow_matrix(student_first, student_last), flow_matrix(teacher_first, teacher_last)
    same_shape(ours, theirs, "flow matrices", _PROJECT)
    return (ours - theirs).square().sum((1, 2))


def channel_correlation(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the inner products between a sample's channels, after ICKD.

    Args:
        student: ``[batch, channels, height, width]``.
        teacher: The same number of channels; the size may differ (products are over the number of positions).

    Returns:
        ``[batch]``, at least 0.

    Raises:
        ValueError: The channels differ.

    Source: arXiv:2202.03680.
    """
    ours, theirs = flow_matrix(student, student), flow_matrix(teacher, teacher)
    same_shape(ours, theirs, "channel correlations", _PROJECT)
    return (ours - theirs).square().mean((1, 2))


def hidden_distance(student: Tensor, teacher: Tensor, *, kind: Literal["mse", "cosine"] = "mse") -> Tensor:
    """Distance of hidden states, token by token: the squared distance summed over width, or 1 − cosine.

    Args:
        student: ``[batch, tokens, width]``.
        teacher: ``[batch, tokens, width]``.
        kind: Which of the two.

    Returns:
        ``[batch, tokens]``, at least 0.

    Raises:
        ValueError: The shapes differ or the kind is unknown.

    Source: arXiv:2502.04499, section 2.
    """
    same_shape(student, teacher, "hidden states", _PROJECT)
    if kind == "mse":
        return (raised(teacher) - raised(student)).square().sum(-1)
    if kind == "cosine":
        return 1 - cosine(raised(student), raised(teacher))
    raise ValueError(f"kind must be 'mse' or 'cosine', got {kind!r}")


def hidden_states(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    mask: Tensor | None = None,
    *,
    kind: Literal["mse", "cosine"] = "mse",
    count: Tensor | float | None = None,
) -> Tensor:
    """Mean over matched pairs of layers of the mean distance over valid tokens.

    Args:
        student: One ``[batch, tokens, width]`` a matched pair.
        teacher: As many, of the same shapes.
        mask: ``[batch, tokens]``, true for real tokens; ``None``: all are.
        kind: See ``hidden_distance``.
        count: Valid tokens of the whole optimiser step; ``None``: of this batch.

    Returns:
        Scalar (the mean over valid tokens), at least 0.

    Raises:
        ValueError: The pairs are none or do not match.

    Source: arXiv:2502.04499, section 2, without the published code's further division by the batch size.
    """
    if not student or len(student) != len(teacher):
        raise ValueError(
            f"hidden_states needs matched pairs, got {len(student)} student and {len(teacher)} teacher states"
        )
    pairs = zip(student, teacher, strict=True)
    return torch.stack(
        [mask_mean(hidden_distance(ours, theirs, kind=kind), mask, count) for ours, theirs in pairs]
    ).mean()


def angle_cosines(student: Tensor, teacher_a: Tensor, teacher_b: Tensor) -> Tensor:
    """Cosine of the angle, seen from the student's state, between the directions to two teacher states.

    Args:
        student: ``[..., width]``.
        teacher_a: ``[..., width]``.
        teacher_b: ``[..., width]``.

    Returns:
        ``[...]``, in [-1, 1]; above 0 both targets pull the same way.

    Raises:
        ValueError: The shapes differ.

    Source: arXiv:2502.04499, section 4.
    """
    same_shape(student, teacher_a, "states", _PROJECT)
    same_shape(student, teacher_b, "states", _PROJECT)
    origin = raised(student)
    return cosine(raised(teacher_a) - origin, raised(teacher_b) - origin)


def structured_cosine(student_a: Tensor, student_b: Tensor, teacher_a: Tensor, teacher_b: Tensor) -> Tensor:
    """Cosine between the student's and the teacher's way from layer b to layer a.

    Args:
        student_a: ``[..., width]``.
        student_b: ``[..., width]``.
        teacher_a: ``[..., width]``, the state matched to ``student_a``.
        teacher_b: ``[..., width]``, the state matched to ``student_b``.

    Returns:
        ``[...]``, in [-1, 1].

    Raises:
        ValueError: The shapes differ.

    Source: arXiv:2502.04499, section 4.
    """
    for other in (student_b, teacher_a, teacher_b):
        same_shape(student_a, other, "states", _PROJECT)
    return cosine(raised(student_a) - raised(student_b), raised(teacher_a) - raised(teacher_b))
