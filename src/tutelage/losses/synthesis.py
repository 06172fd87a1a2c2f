"""What images are made by where there are none: statistics of a teacher, disagreement, categories, suspicion."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tutelage.losses._numeric import log_probabilities, product, raised, relative_entropy, same_shape, unit


def class_balance(logits: Tensor) -> Tensor:
    """How unevenly a batch is spread over the classes: Σ p̄ log₁₀ p̄ of the mean distribution p̄.

    Args:
        logits: ``[batch, classes]``.

    Returns:
        Scalar in [−log₁₀ classes, 0]: smallest where all classes are equally likely over the batch.

    Raises:
        ValueError: The logits are not ``[batch, classes]``.

    Source: arXiv:2302.14290, generator loss; the logarithm is to base 10, as in the authors' code.
    """
    if logits.ndim != 2:
        raise ValueError(f"logits are {list(logits.shape)}; expected [batch, classes]")
    mean = log_probabilities(logits).exp().mean(0)
    return (mean * mean.clamp(min=torch.finfo(mean.dtype).tiny).log10()).sum()


def clamped_jensen_shannon(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 3.0, floor: float = 0.01
) -> Tensor:
    """Half KL(m ‖ p) plus half KL(m ‖ q) as a mean over classes, every probability clamped: the generators' variant.

    Unlike `jensen_shannon` the mixture m is the first argument of both divergences, they are averaged over classes, and
    p, q and m are clamped to ``[floor, 1 − floor]``, which ends the gradient of what is already certain.

    Args:
        student_logits: ``[..., classes]``, giving p.
        teacher_logits: ``[..., classes]``, giving q.
        temperature: Above 0, for both sides; no factor temperature².
        floor: In (0, 0.5).

    Returns:
        ``[...]``.

    Raises:
        ValueError: The shapes differ, the temperature is not positive, or the floor is outside (0, 0.5).

    Source: arXiv:2302.14290 (authors' code), after arXiv:1912.08795, equation 9.
    """
    same_shape(student_logits, teacher_logits, "logits")
    if not 0 < floor < 0.5:
        raise ValueError(f"floor must lie in (0, 0.5), got {floor}")
    p = log_probabilities(student_logits, temperature).exp()
    q = log_probabilities(teacher_logits, temperature).exp()
    m = 0.5 * (p + q)
    p, q, m = (side.clamp(floor, 1 - floor) for side in (p, q, m))
    return 0.5 * (m * (2 * m.log() - p.log() - q.log())).mean(-1)


def statistics_distance(features: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """How far a batch's statistics are from remembered ones: ‖μ − μ̂‖₂ + ‖σ² − σ̂²‖₂ over channels.

    Args:
        features: ``[batch, channels, ...]``, what enters a batch normalisation.
        mean: ``[channels]``, its running mean μ̂.
        variance: ``[channels]``, its running variance σ̂². The batch's is the biased one.

    Returns:
        Scalar, at least 0.

    Raises:
        ValueError: The channels differ.

    Source: arXiv:1912.08795, equation 4.
    """
    if features.ndim < 2 or features.shape[1:2] != mean.shape or mean.shape != variance.shape:
        shapes = f"{list(features.shape)}, {list(mean.shape)} and {list(variance.shape)}"
        raise ValueError(f"features, mean and variance are {shapes}; expected [batch, channels, ...] and [channels]")
    flat = raised(features).transpose(0, 1).flatten(1)
    ours = flat.mean(1)
    spread = (flat - ours[:, None]).square().mean(1)
    return _length(ours - mean) + _length(spread - variance)


def agreed_divergence(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """KL(teacher ‖ student) where both name the same class, else 0: what an adversarial generator may increase.

    Args:
        student_logits: ``[batch, classes]``.
        teacher_logits: ``[batch, classes]``.

    Returns:
        ``[batch]``, at least 0. The mask has no gradient.

    Raises:
        ValueError: The shapes differ.

    Source: arXiv:2310.00258 (authors' code), as used by arXiv:2504.21478.
    """
    same_shape(student_logits, teacher_logits, "logits")
    divergence = relative_entropy(log_probabilities(teacher_logits), log_probabilities(student_logits))
    return divergence * (student_logits.argmax(-1) == teacher_logits.argmax(-1))


def category_contrast(anchors: Tensor, positives: Tensor, labels: Tensor, *, temperature: float = 0.5) -> Tensor:
    """Contrast of categories: −log of the positive's share among itself and the anchors of other classes.

    e^{h·h'/τ} / (e^{h·h'/τ} + Σ_{y_k ≠ y} e^{h·h_k/τ}), with directions h. Samples of the same class are never
    negatives.

    Args:
        anchors: ``[batch, width]``, h before normalisation.
        positives: ``[batch, width]``: another sample of each anchor's class.
        labels: ``[batch]`` int64.
        temperature: τ, above 0.

    Returns:
        ``[batch]``, at least 0; 0 where no other class is present.

    Raises:
        ValueError: The shapes do not fit, or the temperature is not positive.

    Source: arXiv:2504.21478 (CNCL); the form is a reconstruction.
    """
    same_shape(anchors, positives, "embeddings")
    if anchors.ndim != 2 or labels.shape != anchors.shape[:1]:
        raise ValueError(
            f"embeddings are {list(anchors.shape)} and labels {list(labels.shape)}; expected [batch, width] and [batch]"
        )
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    h, other = unit(raised(anchors)), unit(raised(positives))
    alike = (h * other).sum(-1, keepdim=True) / temperature
    against = (product(h, h.T) / temperature).masked_fill(labels[:, None] == labels, -math.inf)
    return torch.logsumexp(torch.cat([alike, against], 1), 1) - alike[:, 0]


def suspicion(teacher_logits: Tensor, shuffled_logits: Tensor) -> tuple[Tensor, Tensor]:
    """How far a teacher is from its shuffled copies, and where the copies still name the teacher's class.

    The divergence Σ p (log p − log q) is divided by the number of classes, as in the authors' code.

    Args:
        teacher_logits: ``[batch, classes]``, giving p.
        shuffled_logits: ``[batch, classes]``, giving q: the mean of the copies' logits.

    Returns:
        ``[batch]`` divergences and ``[batch]`` bool: suspicious samples, for what a shuffled teacher still recognises
        may be a shortcut and no content.

    Raises:
        ValueError: The shapes differ.

    Source: arXiv:2306.02368, section 4.1.
    """
    same_shape(shuffled_logits, teacher_logits, "logits")
    apart = relative_entropy(log_probabilities(teacher_logits), log_probabilities(shuffled_logits))
    return apart / teacher_logits.shape[-1], teacher_logits.argmax(-1) == shuffled_logits.argmax(-1)


def tail_ratio(divergences: Tensor) -> Tensor:
    """Share of samples whose log₁₀ divergence is more than three standard deviations below the mean.

    A shuffle is useful where some samples stand out as still recognised.

    Args:
        divergences: ``[samples]``, at least 0, as `suspicion` gives them.

    Returns:
        Scalar in [0, 1].

    Source: arXiv:2306.02368 (authors' code).
    """
    logs = raised(divergences).clamp(min=torch.finfo(torch.float32).tiny).log10()
    return (logs < logs.mean() - 3 * logs.std(unbiased=False)).to(logs.dtype).mean()


def _length(vector: Tensor) -> Tensor:
    """‖vector‖₂ without the infinite gradient of a root at 0."""
    square = vector.square().sum()
    return torch.where(square > 0, square, 1.0).sqrt() * (square > 0)
