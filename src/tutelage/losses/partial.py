"""Soft labels that keep only a part of what a teacher knows, and what they do to a gradient (arXiv:2002.03532).

A soft label says that no class is certain (universe), which classes are related (domain), and how hard this sample is
(instance). Each target here keeps some of the three. With teacher probabilities p, label t and K classes; targets are
detached, and their rows sum to 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.losses._numeric import log_probabilities, product, raised, unit

# Below it, what a student still gets wrong is taken for it: the ratio of gradients has no bound there.
_NOTHING_LEFT = 1e-12


def smoothed_labels(labels: Tensor, classes: int, *, epsilon: float = 0.1) -> Tensor:
    """Label smoothing, the universe alone: (1 − ε) · onehot + ε / K.

    Args:
        labels: ``[batch]`` class indices.
        classes: K.
        epsilon: ε in [0, 1].

    Returns:
        ``[batch, classes]`` float32.

    Raises:
        ValueError: ε is outside its range, or a label is.
    """
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon must lie in [0, 1], got {epsilon}")
    _check(labels, classes)
    sure = torch.nn.functional.one_hot(labels, classes)
    return (1 - epsilon) * sure + epsilon / classes


def confidence_target(probabilities: Tensor, labels: Tensor) -> Tensor:
    """KD-pt, universe and instance: p of the label (not the largest p), and the rest evenly.

    Args:
        probabilities: ``[batch, classes]`` of the teacher; detached.
        labels: ``[batch]`` class indices.

    Returns:
        ``[batch, classes]``.

    Raises:
        ValueError: The labels do not fit, or there are fewer than 2 classes.
    """
    even = torch.ones_like(probabilities[:1]).expand_as(probabilities)
    return _around(probabilities, labels, even)


def similarity_target(weight: Tensor, *, temperature: float = 0.3) -> Tensor:
    """KD-sim, universe and domain: the softmax of the cosines between the rows of a classifier, the same for a class.

    Args:
        weight: ``[classes, width]`` of the teacher's last layer, whose bias does not count; detached.
        temperature: κ above 0; smaller leaves more to the class itself.

    Returns:
        ``[classes, classes]``: row t is the target of all samples of class t.

    Raises:
        ValueError: The temperature is not positive.
    """
    return log_probabilities(row_similarity(weight.detach()), temperature).exp()


def confident_similarity_target(probabilities: Tensor, labels: Tensor, similarity: Tensor) -> Tensor:
    """KD-pt+sim, all three: p of the label, and the rest in the proportions of ``similarity_target``.

    Args:
        probabilities: ``[batch, classes]`` of the teacher; detached.
        labels: ``[batch]`` class indices.
        similarity: ``[classes, classes]``, from ``similarity_target``.

    Returns:
        ``[batch, classes]``.

    Raises:
        ValueError: The shapes do not fit.
    """
    classes = probabilities.shape[-1]
    if similarity.shape != (classes, classes):
        raise ValueError(f"the similarities of {classes} classes must be square, got {list(similarity.shape)}")
    _check(labels, classes)
    return _around(probabilities, labels, similarity[labels])


def top_target(probabilities: Tensor, k: int) -> Tensor:
    """KD-topk: the K largest probabilities as they are, and the rest evenly over the other classes.

    Args:
        probabilities: ``[batch, classes]`` of the teacher; detached.
        k: In [1, classes]; all classes leave the teacher as it is.

    Returns:
        ``[batch, classes]``.

    Raises:
        ValueError: k does not fit the classes.
    """
    classes = probabilities.shape[-1]
    if not 1 <= k <= classes:
        raise ValueError(f"k must lie in [1, {classes}] for {classes} classes, got {k}")
    p = raised(probabilities.detach())
    if k == classes:
        return p
    kept = torch.zeros_like(p, dtype=torch.bool).scatter(-1, p.topk(k, dim=-1).indices, True)
    # Summed over what is spread, not 1 minus the kept, which rounds to 0 for a certain teacher.
    left = p.masked_fill(kept, 0.0).sum(-1, keepdim=True) / (classes - k)
    return torch.where(kept, p, left)


def gradient_rescaling(
    student_logits: Tensor,
    target: Tensor,
    labels: Tensor,
    *,
    weight: float,
    temperature: float = 1.0,
    scale: bool = False,
) -> Tensor:
    """ω: by how much a soft target changes the gradient at the true class's logit, as a factor on the label loss's.

    Of (1 − λ) H(onehot, q) + λ H(ρ, q̃), with q̃ = softmax(student / T): ω = (1 − λ) + (λ / T) (ρ_t − q̃_t) / (1 − q_t).
    Above 1, the teacher makes more of this sample. There is no bound where the student is certain: look at medians.

    Args:
        student_logits: ``[batch, classes]``; detached.
        target: ρ, ``[batch, classes]``: for plain distillation the teacher's probabilities at T.
        labels: ``[batch]`` class indices t.
        weight: λ in [0, 1].
        temperature: T, above 0.
        scale: The loss multiplies its soft term by T².

    Returns:
        ``[batch]``; 1 − λ where ρ_t = q̃_t.

    Raises:
        ValueError: The shapes do not fit, or the temperature is not positive.

    Source: arXiv:2002.03532, gradient rescaling by the example's difficulty.
    """
    if student_logits.shape != target.shape:
        shapes = f"logits are {list(student_logits.shape)} and targets {list(target.shape)}"
        raise ValueError(f"{shapes}; both must have one shape")
    _check(labels, student_logits.shape[-1])
    place = labels.unsqueeze(-1)
    student = student_logits.detach()
    soft = log_probabilities(student, temperature).gather(-1, place).exp().squeeze(-1)
    wrong = -torch.expm1(log_probabilities(student).gather(-1, place).squeeze(-1))
    ratio = (raised(target.detach()).gather(-1, place).squeeze(-1) - soft) / wrong.clamp(min=_NOTHING_LEFT)
    factor = weight / temperature * (temperature**2 if scale else 1.0)
    return (1 - weight) + factor * ratio


def row_similarity(weight: Tensor) -> Tensor:
    """``[classes, classes]``: cosines between the rows of a classifier's weight ``[classes, width]``."""
    rows = unit(raised(weight))
    return product(rows, rows.T)


def similarity_agreement(first: Tensor, second: Tensor) -> Tensor:
    """Pearson correlation, over pairs of different classes, of the cosines between two classifiers' rows.

    Args:
        first: ``[classes, width]``.
        second: ``[classes, width]`` of any width.

    Returns:
        Scalar in [−1, 1]; 0 where one side knows no differences.

    Raises:
        ValueError: The classes differ, or are fewer than 3.
    """
    if len(first) != len(second) or len(first) < 3:
        raise ValueError(
            f"agreement needs two classifiers of the same 3 classes or more, got {len(first)}, {len(second)}"
        )
    above = torch.triu_indices(len(first), len(first), 1, device=first.device)
    pairs = [row_similarity(weight)[above[0], above[1]] for weight in (first, second)]
    one, two = (unit(values - values.mean()) for values in pairs)
    return (one * two).sum()


def superclass_contrast(weight: Tensor, groups: Tensor) -> Tensor:
    """How much more alike a classifier's rows are within super-classes than between them: a difference of mean cosines.

    Args:
        weight: ``[classes, width]``.
        groups: ``[classes]``: the super-class of each class; one of them holds two classes, and there are two of them.

    Returns:
        Scalar in [−2, 2].

    Raises:
        ValueError: There is not one group a class, or no pair within or between groups.
    """
    if groups.shape != (len(weight),):
        raise ValueError(
            f"superclass_contrast needs a group for each of {len(weight)} classes, got {list(groups.shape)}"
        )
    together = groups[:, None] == groups[None, :]
    different = ~torch.eye(len(weight), dtype=torch.bool, device=weight.device)
    if not (together & different).any() or together.all():
        raise ValueError("superclass_contrast needs a group of two classes or more, and two groups")
    similarity = row_similarity(weight)
    return similarity[together & different].mean() - similarity[~together].mean()


def _around(probabilities: Tensor, labels: Tensor, shape: Tensor) -> Tensor:
    """The label's p, and 1 − p in proportion to ``shape`` ``[batch, classes]`` over the others."""
    p = raised(probabilities.detach())
    classes = p.shape[-1]
    if classes < 2:
        raise ValueError("a target with a part for the other classes needs 2 classes or more")
    _check(labels, classes)
    place = labels.unsqueeze(-1)
    others = shape.detach().to(p.dtype).scatter(-1, place, 0.0)
    outside = p.scatter(-1, place, 0.0).sum(-1, keepdim=True)
    return (outside * others / others.sum(-1, keepdim=True)).scatter(-1, place, p.gather(-1, place))


def _check(labels: Tensor, classes: int) -> None:
    if labels.is_floating_point() or labels.dim() != 1:
        raise ValueError(f"partial targets need class indices [batch], got {labels.dtype} {list(labels.shape)}")
    if len(labels) and not (int(labels.min()) >= 0 and int(labels.max()) < classes):
        raise ValueError(f"class indices must lie in [0, {classes}), got {int(labels.min())} to {int(labels.max())}")
