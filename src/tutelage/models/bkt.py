"""Bayesian knowledge tracing: each concept is known or not (Corbett and Anderson 1995)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tutelage.data.answers import AnswerBatch
from tutelage.data.batch import DataInfo
from tutelage.losses.hidden_mastery import PARAMETERS
from tutelage.models.tracer import Tracer
from tutelage.recipe.registry import component

START = {"prior": 0.4, "learn": 0.15, "forget": 0.0, "guess": 0.2, "slip": 0.1}


@component("model", "bkt")
class BKT(Tracer):
    """A hidden state of each concept, with a probability to be known at first, to be learnt, to guess and to slip.

    Of a question with several concepts the probabilities are averaged, and each concept learns from the answer.

    Args:
        data: Facts about the log of answers.
    """

    prior: nn.Parameter
    guess: nn.Parameter
    slip: nn.Parameter

    def __init__(self, data: DataInfo) -> None:
        super().__init__(data)
        for name in PARAMETERS:
            self.register_parameter(name, nn.Parameter(torch.full((self.concepts,), START[name])))

    @property
    def parameters_by_name(self) -> dict[str, Tensor]:
        """``[concepts]`` each."""
        return {name: getattr(self, name) for name in PARAMETERS}

    def begun(self, batch: int) -> Tensor:
        """``[batch, concepts]``: how likely each concept is known at first."""
        return self.prior.expand(batch, -1).clone()

    def step(self, belief: Tensor, concepts: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
        """One answer.

        Args:
            belief: ``[batch, concepts]`` how likely each is known; changed in place.
            concepts: ``[batch, width]``, -1 in places that are not needed.
            answers: ``[batch]`` in [0, 1].

        Returns:
            ``[batch]`` how likely a right answer was, and the beliefs after.
        """
        there = concepts >= 0
        at = concepts.clamp_min(0)
        own = {name: value.to(belief.dtype)[at] for name, value in self.parameters_by_name.items()}
        known = belief.gather(1, at)
        right = known * (1 - own["slip"]) + (1 - known) * own["guess"]
        chance = (right * there).sum(1) / there.sum(1).clamp_min(1)
        after_right = known * (1 - own["slip"]) / right.clamp_min(1e-12)
        after_wrong = known * own["slip"] / (1 - right).clamp_min(1e-12)
        after = torch.lerp(after_wrong, after_right, answers[:, None].expand_as(after_right).to(belief.dtype))
        moved = after * (1 - own["forget"]) + (1 - after) * own["learn"]
        # Places that are not needed add nothing to the first concept.
        change = torch.where(there, moved - known, torch.zeros_like(moved))
        return chance, belief.scatter_add_(1, at, change)

    def trace(
        self, concepts: Tensor, answers: Tensor, items: Tensor, times: Tensor, real: Tensor, offsets: Tensor
    ) -> Tensor:
        """Beliefs of all learners of the batch move together."""
        belief = self.begun(len(concepts)).detach().clone()
        chances = []
        with torch.no_grad():
            for step in range(concepts.shape[1]):
                chance, belief = self.step(belief, concepts[:, step], answers[:, step])
                chances.append(chance)
        return torch.stack(chances, 1).logit(eps=1e-6)

    @torch.no_grad()
    def mastery(self, batch: AnswerBatch) -> Tensor:
        """From the same beliefs for all concepts."""
        belief = self.begun(len(batch)).detach().clone()
        made = [self._right(belief)]
        for step in range(batch.labels.shape[1]):
            _, belief = self.step(belief, batch.inputs[:, step], batch.labels[:, step])
            made.append(self._right(belief))
        return torch.stack(made, 1)

    @torch.no_grad()
    def latest(self, batch: AnswerBatch) -> Tensor:
        """From the beliefs at last; steps that are not real move nothing."""
        every = self.mastery(batch)
        return every[torch.arange(len(batch)), batch.real.sum(1)]

    def _right(self, belief: Tensor) -> Tensor:
        return belief * (1 - self.slip) + (1 - belief) * self.guess
