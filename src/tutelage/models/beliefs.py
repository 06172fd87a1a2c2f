"""What is held of learners' traits and states: Gaussians, and all that a filter needs of the past."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from tutelage.models.outputs import Outputs


@dataclass(frozen=True)
class Gaussian:
    """Independent Gaussians.

    Args:
        mean: Of any shape.
        variance: Of the same shape.
    """

    mean: Tensor
    variance: Tensor

    def sample(self) -> Tensor:
        """A draw that gradients go through."""
        return self.mean + self.variance.sqrt() * torch.randn_like(self.mean)


@dataclass(frozen=True)
class PsiOutputs(Outputs):
    """Logits of the next answers, and what a variational objective is made of.

    Args:
        traits: Posterior of traits after each step, ``[batch, steps, traits]``.
        clusters: ``[batch, steps, clusters]`` probabilities of the kinds of learners.
        states: Posterior of states after each step, ``[batch, steps, concepts]``; ``None`` where they are filtered.
        expected: What the states were expected to be before it; ``None`` likewise.
        drawn: A draw of the states; ``None`` likewise.
    """

    traits: Gaussian | None = None
    clusters: Tensor | None = None
    states: Gaussian | None = None
    expected: Gaussian | None = None
    drawn: Tensor | None = None


@dataclass(frozen=True)
class Belief:
    """What is known of learners after their last answers: all that the next one needs.

    Args:
        mean: ``[learners, concepts]`` of the states.
        variance: Likewise.
        memory: ``[learners, 2, size]``: the recurrent network's output and cell.
        times: ``[learners]`` float64 days of the last answers, and of the first: ``[learners, 2]``.
        count: ``[learners]`` answers so far.
    """

    mean: Tensor
    variance: Tensor
    memory: Tensor
    times: Tensor
    count: Tensor

    @classmethod
    def join(cls, beliefs: Sequence[Belief]) -> Belief:
        """Of several learners."""
        return cls(*(torch.cat([getattr(b, f.name) for b in beliefs]) for f in fields(cls)))

    def of(self, place: int) -> Belief:
        """Of one learner alone."""
        return Belief(*(getattr(self, f.name)[place : place + 1].clone() for f in fields(self)))
