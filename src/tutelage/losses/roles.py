"""Who teaches next and what a teacher should look at: online role change (arXiv:2206.01186, ICCV 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def elect(losses: Tensor, sizes: Sequence[int], count: int = 1) -> list[int]:
    """The networks with the lowest losses, best first; of equally good ones the larger.

    Args:
        losses: ``[networks]``.
        sizes: How large each is, e.g. its number of parameters.
        count: How many are elected, in [1, networks].

    Raises:
        ValueError: There is not one size a network, or ``count`` does not fit.
    """
    if losses.shape != (len(sizes),):
        raise ValueError(f"losses of shape {list(losses.shape)} need as many sizes, got {len(sizes)}")
    if not 1 <= count <= len(sizes):
        raise ValueError(f"count must lie in [1, {len(sizes)}] for {len(sizes)} networks, got {count}")
    values = losses.tolist()
    return sorted(range(len(sizes)), key=lambda i: (values[i], -sizes[i]))[:count]


def feedback(losses: Tensor, wrong: Tensor, count: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Positions of samples to draw from what students get wrong, the more from a student the higher its mean loss.

    A student has a share softmax(mean losses); within it, all samples that it misses are equally likely. Students that
    miss nothing have no share. Pairs of student and sample are drawn without replacement where there are enough. Where
    nobody misses anything, the pairs of the highest losses are taken.

    Args:
        losses: ``[students, batch]``.
        wrong: ``[students, batch]`` bool.
        count: How many are drawn, at least 1 and at most students · batch.
        generator: Source of randomness; torch's own if not given.

    Returns:
        ``[count]`` int64 positions in the batch.

    Raises:
        ValueError: The shapes differ or ``count`` does not fit.

    Source: arXiv:2206.01186, feedback of students; the share and the case without errors are a reconstruction.
    """
    if losses.shape != wrong.shape or losses.ndim != 2:
        shapes = f"losses are {list(losses.shape)} and errors {list(wrong.shape)}"
        raise ValueError(f"{shapes}; both must be [students, batch]")
    if not 1 <= count <= losses.numel():
        raise ValueError(f"count must lie in [1, {losses.numel()}], got {count}")
    batch = losses.shape[1]
    losses = losses.detach().float()
    missed = wrong.sum(1)
    if not bool(missed.any()):
        return losses.flatten().argsort(descending=True, stable=True)[:count] % batch
    shares = losses.mean(1).masked_fill(missed == 0, float("-inf")).softmax(0)
    # Nobody's share may underflow to 0, which would leave pairs that cannot be drawn.
    chances = (wrong * (shares / missed.clamp(min=1)).clamp(min=1e-12)[:, None]).flatten()
    again = int(missed.sum()) < count
    return torch.multinomial(chances, count, replacement=again, generator=generator) % batch
