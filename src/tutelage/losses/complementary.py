"""Who teaches a sample: another model, or what the student itself knew at its start (arXiv:2310.17653, ICLR 2024)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from tutelage.losses._numeric import log_probabilities, raised, relative_entropy

Partition = Literal["unsupervised", "supervised", "flip_st", "flip_t", "flip_avg", "self", "teacher"]


def teaching_shares(
    initial_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None = None, *, partition: Partition
) -> Tensor:
    """Each source's share in teaching each sample; source 0 is the student as it was at its start.

    ``unsupervised`` takes the most confident source, ``supervised`` the one with the largest probability of the label;
    the lowest index wins a tie, so that the student keeps what it knows as well as another. With one teacher there are
    also partitions by who is right: ``flip_st`` (the teacher only where it alone is right), ``flip_t`` (the student
    only where it alone is right) and ``flip_avg`` (whoever alone is right, else half each). ``self`` and ``teacher`` do
    not divide: always the student's start, always the teacher.

    Args:
        initial_logits: ``[batch, classes]``; detached.
        teacher_logits: ``[teachers, batch, classes]``; detached.
        labels: ``[batch]`` int64 class indices; only ``unsupervised``, ``self`` and ``teacher`` do without.
        partition: See above.

    Returns:
        ``[1 + teachers, batch]`` float32 or better, summing to 1 over the sources.

    Raises:
        ValueError: The shapes do not fit, labels are missing or no indices, or several teachers meet a partition for
            one.

    Source: arXiv:2310.17653, transfer through data partitioning, and its variants in the authors' code.
    """
    if teacher_logits.shape[1:] != initial_logits.shape:
        shapes = f"the initial logits are {list(initial_logits.shape)} and the teachers' {list(teacher_logits.shape)}"
        raise ValueError(f"{shapes}; expected [batch, classes] and [teachers, batch, classes]")
    sources = torch.cat([initial_logits[None], teacher_logits]).detach()
    if partition in ("unsupervised", "supervised"):
        log_p = log_probabilities(sources)
        if partition == "unsupervised":
            known = log_p.amax(-1)
        else:
            place = _indices(labels, sources, partition)[None, :, None].expand(len(sources), -1, 1)
            known = log_p.gather(-1, place).squeeze(-1)
        return torch.nn.functional.one_hot(known.argmax(0), len(sources)).T.to(log_p)
    if len(sources) != 2:
        raise ValueError(f"partition '{partition}' knows one teacher, not {len(teacher_logits)}")
    if partition in ("self", "teacher"):
        teacher = sources.new_full(sources.shape[1:2], float(partition == "teacher"))
    else:
        own, theirs = sources.argmax(-1) == _indices(labels, sources, partition)
        teacher = _flipped(own, theirs, partition)
    teacher = raised(teacher)
    return torch.stack([1 - teacher, teacher])


def _flipped(own: Tensor, theirs: Tensor, partition: str) -> Tensor:
    """``[batch]``: the teacher's share, from who is right."""
    gained, lost = (theirs & ~own).float(), (own & ~theirs).float()
    shares = {"flip_st": gained, "flip_t": 1 - lost, "flip_avg": (1 + gained - lost) / 2}
    if partition not in shares:
        raise ValueError(f"there is no partition '{partition}'; there are {', '.join(Partition.__args__)}")  # type: ignore[attr-defined]
    return shares[partition]


def _indices(labels: Tensor | None, sources: Tensor, partition: str) -> Tensor:
    batch = sources.shape[1]
    if labels is None or labels.is_floating_point() or labels.shape != (batch,):
        found = "none" if labels is None else f"{labels.dtype} {list(labels.shape)}"
        raise ValueError(f"partition '{partition}' needs [{batch}] class indices as labels, got {found}")
    return labels.long()


def shared_target(sources: Tensor, shares: Tensor) -> Tensor:
    """The logits that a sample's sources give together; what has no share is not read, so it may be infinite.

    Args:
        sources: ``[sources, batch, classes]`` logits.
        shares: ``[sources, batch]``, see `teaching_shares`.

    Returns:
        ``[batch, classes]``.
    """
    weights = shares[..., None]
    return torch.where(weights > 0, weights * raised(sources), 0.0).sum(0)


def top_divergence(
    student_logits: Tensor, target_logits: Tensor, *, k: int | None = None, temperature: float = 1.0
) -> Tensor:
    """T² · KL(target ‖ student) over the target's k largest logits, both renormalised over these.

    Args:
        student_logits: ``[batch, classes]``.
        target_logits: ``[batch, classes]``; ranks the classes; not detached.
        k: How many, in [1, classes]; ``None`` for all.
        temperature: T, above 0.

    Returns:
        ``[batch]``, at least 0.

    Raises:
        ValueError: The shapes differ, k does not fit the classes, or the temperature is not positive.

    Source: arXiv:2310.17653, with the restriction to the top k of the authors' code.
    """
    if student_logits.shape != target_logits.shape:
        shapes = f"the student's logits are {list(student_logits.shape)} and the target's {list(target_logits.shape)}"
        raise ValueError(f"{shapes}; both must have one shape")
    classes = target_logits.shape[-1]
    if k is not None:
        if not 1 <= k <= classes:
            raise ValueError(f"k must lie in [1, {classes}] for {classes} classes, got {k}")
        best = target_logits.detach().topk(k, dim=-1).indices
        student_logits, target_logits = student_logits.gather(-1, best), target_logits.gather(-1, best)
    target, student = (log_probabilities(z, temperature) for z in (target_logits, student_logits))
    return temperature**2 * relative_entropy(target, student)


def best_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature that makes a model's confidences as honest as one number can: of the least cross-entropy.

    Args:
        logits: ``[batch, classes]``; detached.
        labels: ``[batch]`` int64 class indices.

    Returns:
        In [0.05, 20], to within 0.1 %. The cross-entropy has one minimum in 1 / T, for it is convex there.

    Source: arXiv:1706.04599, section 4.2.
    """
    logits = raised(logits.detach())

    def loss(inverse: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits * inverse, labels.long()))

    # Golden-section search for log(1 / T).
    low, high, ratio = -math.log(20.0), math.log(20.0), (math.sqrt(5) - 1) / 2
    inner = [high - ratio * (high - low), low + ratio * (high - low)]
    values = [loss(math.exp(x)) for x in inner]
    while high - low > 1e-3:
        if values[0] < values[1]:
            high, inner[1], values[1] = inner[1], inner[0], values[0]
            inner[0] = high - ratio * (high - low)
            values[0] = loss(math.exp(inner[0]))
        else:
            low, inner[0], values[0] = inner[0], inner[1], values[1]
            inner[1] = low + ratio * (high - low)
            values[1] = loss(math.exp(inner[1]))
    return math.exp(-(low + high) / 2)
