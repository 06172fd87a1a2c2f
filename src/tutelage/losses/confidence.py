"""What remains of a teacher that keeps only its confidence, or only its values (arXiv:1805.04770, section 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.losses._numeric import log_probabilities


def confidence_weights(teacher_logits: Tensor) -> Tensor:
    """CWTM: sample weights in proportion to the teacher's largest probability, also where the teacher is wrong.

    Args:
        teacher_logits: ``[batch, classes]``; detached.

    Returns:
        ``[batch]``, summing to 1 over the batch: the loss is the **sum** of weight · loss, not its mean.

    Source: arXiv:1805.04770, confidence weighted by teacher max.
    """
    largest = log_probabilities(teacher_logits.detach()).amax(-1).exp()
    return largest / largest.sum()


def permute_dark_knowledge(probabilities: Tensor, seeds: Tensor) -> Tensor:
    """DKPP: shuffle each sample's probabilities among all classes but the largest, which stays in place.

    The permutation is a function of the sample's seed alone, so a view seeded per (sample, epoch) gets a fresh one each
    epoch and replays after a resume; a constant seed per sample keeps one permutation. Two classes leave nothing to
    shuffle.

    Args:
        probabilities: ``[batch, classes]``: the teacher's.
        seeds: ``[batch]`` int64.

    Returns:
        ``[batch, classes]``: the same values, row by row, with the teacher's argmax where it was.

    Raises:
        ValueError: There is not one seed a sample.

    Source: arXiv:1805.04770, dark knowledge with permuted predictions.
    """
    batch, classes = probabilities.shape
    if seeds.shape != (batch,):
        raise ValueError(f"permute_dark_knowledge needs one seed a sample: {batch} samples, seeds {list(seeds.shape)}")
    top = probabilities.argmax(-1, keepdim=True)
    # Positions of the other classes, once in order and once in the order of random keys; the top class is sorted last.
    columns = torch.arange(classes, device=probabilities.device).expand(batch, classes)
    last = torch.iinfo(torch.int64).max
    targets = columns.scatter(-1, top, last).argsort(dim=-1)[:, : classes - 1]
    sources = _keys(seeds.to(probabilities.device), classes).scatter(-1, top, last).argsort(dim=-1)[:, : classes - 1]
    return probabilities.scatter(-1, targets, probabilities.gather(-1, sources))


def _keys(seeds: Tensor, count: int) -> Tensor:
    """``[batch, count]`` random int64, a function of (seed, position): a SplitMix64 stream for each hashed seed."""
    golden, salt = -0x61C8864680B583EB, 0x444B5050
    steps = torch.arange(1, count + 1, device=seeds.device) * golden
    return _mixed(_mixed(seeds + salt)[:, None] + steps)


def _mixed(value: Tensor) -> Tensor:
    """SplitMix64's finaliser in wrapping int64; the masks turn arithmetic shifts into logical ones."""
    value = (value ^ ((value >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    value = (value ^ ((value >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return value ^ ((value >> 31) & 0x1FFFFFFFF)
