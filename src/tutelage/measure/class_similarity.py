"""What soft labels say of how alike classes are, and whether it arrived (arXiv:2305.15734)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def class_profiles(logits: Tensor, labels: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Mean distribution of the samples of each class.

    Args:
        logits: ``[n, classes]``.
        labels: ``[n]`` int64.
        temperature: Above 0.

    Returns:
        ``[classes, classes]`` float64; a row of NaN for a class without samples.
    """
    soft = (logits.double() / temperature).softmax(1)
    sums = torch.zeros(soft.shape[1], soft.shape[1], dtype=torch.float64).index_add_(0, labels.cpu(), soft.cpu())
    return sums / torch.bincount(labels.cpu(), minlength=soft.shape[1]).double()[:, None]


def profile_agreement(subject: Tensor, source: Tensor) -> dict[str, float]:
    """How alike two models find the same classes.

    Args:
        subject: ``[classes, classes]``, see `class_profiles`.
        source: Of the same classes.

    Returns:
        ``kl``, mean divergence KL(source || subject) over classes in nats; ``correlation`` of what lies outside the
        diagonal, 0 where it does not vary.

    Raises:
        ValueError: The classes differ.
    """
    if subject.shape != source.shape:
        raise ValueError(f"profiles of {len(subject)} and of {len(source)} classes cannot be compared")
    known = ~(subject.isnan() | source.isnan()).any(1)
    ours, theirs = subject[known].clamp(min=1e-300), source[known]
    apart = torch.special.xlogy(theirs, theirs) - theirs * ours.log()
    off = ~torch.eye(len(subject), dtype=torch.bool)[known]
    pair = torch.stack([subject[known][off], source[known][off]])
    pair = pair - pair.mean(1, keepdim=True)
    lengths = pair.norm(dim=1)
    alike = float((pair[0] @ pair[1]) / (lengths[0] * lengths[1])) if lengths.min() > 1e-12 else 0.0
    return {"kl": float(apart.sum(1).mean()), "correlation": alike}


def soft_label_facts(
    logits: Tensor, labels: Tensor, *, temperature: float, superclasses: Sequence[Sequence[int]] | None = None
) -> dict[str, float | None]:
    """What a temperature makes of a teacher's soft labels.

    Args:
        logits: ``[n, classes]``.
        labels: ``[n]`` int64.
        temperature: Above 0.
        superclasses: Classes that belong together.

    Returns:
        ``entropy``, the mean, in nats; ``superclass_mass``, the mean share of what is not the label's own that lies on
        classes of the same superclass, ``None`` without superclasses.
    """
    soft = (logits.double() / temperature).softmax(1)
    entropy = -torch.special.xlogy(soft, soft).sum(1).mean()
    mass: float | None = None
    if superclasses:
        group = torch.full((soft.shape[1],), -1)
        for place, members in enumerate(superclasses):
            group[list(members)] = place
        own = torch.nn.functional.one_hot(labels, soft.shape[1]).bool()
        same = (group[None, :] == group[labels][:, None]) & (group[labels] >= 0)[:, None] & ~own
        rest = soft.masked_fill(own, 0.0)
        mass = float(((rest * same).sum(1) / rest.sum(1).clamp(min=1e-300)).mean())
    return {"entropy": float(entropy), "superclass_mass": mass}
