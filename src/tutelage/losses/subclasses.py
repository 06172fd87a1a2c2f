"""Pseudo-subclasses: classes divided along a teacher's embeddings, and how far a student is from its division.

Logits and targets over subclasses are ``[batch, classes, subclasses]``. A subclass that does not exist has a score of
−inf, a share of 0, and a student's logit of −inf.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.losses._numeric import log_probabilities, raised, relative_entropy, same_shape


def logit_null_space(weight: Tensor) -> Tensor:
    """Projection onto the directions of an embedding that its classifier's probabilities do not depend on.

    P = I − V Vᵀ, with V the right singular vectors of the classifier that belong to non-zero singular values. The
    classifier is centred over classes first, for the softmax does not see what all logits share.

    Args:
        weight: ``[classes, width]``.

    Returns:
        ``[width, width]`` in double precision, symmetric, of rank at least ``width − classes + 1``.

    Raises:
        ValueError: It is no matrix.

    Source: arXiv:2409.20449, the projection before the principal components.
    """
    if weight.ndim != 2:
        raise ValueError(f"a classifier's weight is [classes, width], got {list(weight.shape)}")
    exact = weight.detach().double()
    _, values, directions = torch.linalg.svd(exact - exact.mean(0), full_matrices=False)
    seen = directions[values > 1e-6 * values.max().clamp_min(1e-30)]
    whole = torch.eye(exact.shape[1], dtype=exact.dtype, device=exact.device)
    projection: Tensor = whole - seen.T @ seen
    return projection


def principal_directions(embeddings: Tensor, count: int, rotation: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The mean of some samples, and the directions along which they vary most.

    Signs are fixed: the largest entry of a direction is positive. A rotation makes every direction carry about the
    average variance instead of the first one most of it.

    Args:
        embeddings: ``[samples, width]`` of one class.
        count: How many directions are wanted, at least 1.
        rotation: ``[k, k]`` orthonormal, for as many directions as there are; ``None`` for none.

    Returns:
        ``[width]`` and ``[width, k]`` in double precision, with k = ``count``, or fewer where the samples vary along
        fewer directions.

    Raises:
        ValueError: There is no sample, or the rotation has another size.

    Source: arXiv:2409.20449, principal components of each class, and their random rotation.
    """
    if embeddings.ndim != 2 or not len(embeddings) or count < 1:
        raise ValueError(
            f"expected embeddings [samples, width] and a count of 1 or more, got {list(embeddings.shape)} and {count}"
        )
    exact = embeddings.detach().double()
    mean = exact.mean(0)
    centred = exact - mean
    _, values, directions = torch.linalg.svd(centred, full_matrices=False)
    # Single precision made the embeddings: what is below its rounding is no direction.
    present = values > 1e-5 * exact.norm(dim=1).max().clamp_min(1e-30)
    axes = directions[present][:count].T
    if axes.shape[1]:
        axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    if rotation is None:
        return mean, axes
    if rotation.shape != (axes.shape[1], axes.shape[1]):
        raise ValueError(f"a rotation of {axes.shape[1]} directions is square, got {list(rotation.shape)}")
    return mean, axes @ rotation.to(axes)


def subclass_scores(embeddings: Tensor, means: Tensor, axes: Tensor, scales: Tensor) -> Tensor:
    """Where samples lie along every class's directions: u = (h − μ_c)ᵀ A_c / σ_c.

    Args:
        embeddings: ``[batch, width]``.
        means: ``[classes, width]``.
        axes: ``[classes, width, subclasses]``.
        scales: ``[classes]``, above 0: root mean square of the scores of a class's own training samples.

    Returns:
        ``[batch, classes, subclasses]``.

    Raises:
        ValueError: The shapes do not fit.

    Source: arXiv:2409.20449.
    """
    classes, width = means.shape
    if embeddings.shape[1:] != (width,) or axes.shape[:2] != (classes, width) or scales.shape != (classes,):
        raise ValueError(
            f"expected embeddings [batch, {width}], axes [{classes}, {width}, subclasses] and scales [{classes}] for "
            f"means {list(means.shape)}, got {list(embeddings.shape)}, {list(axes.shape)} and {list(scales.shape)}"
        )
    centred = raised(embeddings)[:, None] - means
    return torch.einsum("bcd,cds->bcs", centred, axes) / scales[:, None]


def subclass_targets(teacher_logits: Tensor, within: Tensor, *, temperature: float = 1.0) -> Tensor:
    """The teacher's distribution over subclasses: t = p_c · q_cs, with p = softmax(teacher / T).

    Args:
        teacher_logits: ``[batch, classes]``.
        within: ``[batch, classes, subclasses]``: q, each class's shares, which sum to 1 for every class.
        temperature: T, above 0.

    Returns:
        ``[batch, classes, subclasses]``; its sums over subclasses are p.

    Raises:
        ValueError: The shapes do not fit, or the temperature is not positive.

    Source: arXiv:2409.20449.
    """
    if within.ndim != 3 or within.shape[:2] != teacher_logits.shape:
        raise ValueError(
            f"teacher logits are {list(teacher_logits.shape)} and the shares within classes {list(within.shape)}; "
            "expected [batch, classes] and [batch, classes, subclasses]"
        )
    return log_probabilities(teacher_logits, temperature).exp()[..., None] * within


def class_logits(subclass_logits: Tensor) -> Tensor:
    """Logits of classes whose probabilities are the sums over their subclasses: the logarithm of the summed powers.

    Args:
        subclass_logits: ``[batch, classes, subclasses]``.

    Returns:
        ``[batch, classes]``.
    """
    return raised(subclass_logits).logsumexp(-1)


def subclass_divergence(
    student_logits: Tensor, target: Tensor, *, temperature: float = 1.0, scale: bool = True
) -> tuple[Tensor, Tensor]:
    """Divergence from a distribution over subclasses, in the two parts that it is the sum of.

    KL(t ‖ q) = KL(p ‖ q over classes) + Σ_c p_c · KL(t given c ‖ q given c), with q = softmax over all subclasses. The
    first part is plain distillation.

    Args:
        student_logits: ``[batch, classes, subclasses]``.
        target: ``[batch, classes, subclasses]``, at least 0; sums to 1 over classes and subclasses.
        temperature: Divides the student's logits; above 0.
        scale: Multiply by temperature².

    Returns:
        Two times ``[batch]``, at least 0: between classes, and within them.

    Raises:
        ValueError: The shapes differ, or the temperature is not positive.

    Source: arXiv:2409.20449.
    """
    same_shape(student_logits, target, "subclass logits and targets")
    goal = raised(target)
    ours = log_probabilities(student_logits.flatten(1), temperature).view_as(student_logits)
    # The logarithm of nothing is never looked at: what has no share counts for nothing.
    theirs = goal.masked_fill(goal == 0, 1.0).log().masked_fill(goal == 0, float("-inf"))
    ours_by_class, theirs_by_class = ours.logsumexp(-1), theirs.logsumexp(-1)
    between = relative_entropy(theirs_by_class, ours_by_class)
    whole = relative_entropy(theirs.flatten(1), ours.flatten(1))
    factor = temperature**2 if scale else 1.0
    return factor * between, factor * (whole - between)
