"""AT: attention transfer between feature maps (arXiv:1612.03928, ICLR 2017)."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, MinLen

from tutelage.data.batch import Batch
from tutelage.distill.base import Distillation
from tutelage.distill.parts.features import as_tokens, captured, same_positions
from tutelage.engine.method import Room
from tutelage.engine.terms import Losses
from tutelage.losses import attention_transfer, cross_entropy
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import method
from tutelage.recipe.types import Ramped


@method("attention-transfer", paper="arXiv:1612.03928", route="distill")
class AttentionTransfer(Distillation):
    """Make the student look where the teacher looks: match maps of activation energy (equation 2).

    The usual weight of 1000 assumes maps of dozens of positions, over which the squared difference is averaged. A map
    of four positions needs about a hundredth of it, for otherwise the labels are not heard. Of two maps of different
    height or width, the larger is averaged down to the smaller.

    Args:
        pairs: Taps of the student and of the teacher that are compared.
        beta: Weight of the maps' distance, averaged over pairs.
        exponent: Power of the activations.
        squared: The mean squared difference of the authors' code; otherwise the length of the difference, as in the
            equation.
        task_weight: Weight of the label term.
    """

    def __init__(
        self,
        *,
        pairs: Annotated[list[tuple[str, str]], MinLen(1)] = [("features", "features")],  # noqa: B006 - read only
        beta: Annotated[float, Ge(0), Ramped()] = 1000.0,
        exponent: Annotated[float, Ge(1)] = 2.0,
        squared: bool = True,
        task_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
    ) -> None:
        super().__init__()
        self.pairs = [(ours, theirs) for ours, theirs in pairs]
        self.beta, self.exponent, self.squared, self.task_weight = beta, exponent, squared, task_weight

    def setup(self, room: Room) -> None:
        """Tap the pairs.

        Raises:
            InputError: A tap matches nothing or several places, is no feature map, or the positions of a pair differ
                and cannot be averaged.
        """
        for ours, theirs in self.pairs:
            seen = []
            for name, tap in (("student", ours), ("teacher", theirs)):
                seen.append(captured(room, name, tap))
                shape = seen[-1].shape
                if len(shape) not in (3, 4):
                    raise InputError(
                        f"method.pairs: the tap '{tap}' of the {name} has the shape {list(shape[1:])}; expected "
                        "a feature map [channels, height, width] or [tokens, width]"
                    )
            counts = [as_tokens(one).shape[1] for one in same_positions(*seen)]
            if counts[0] != counts[1]:
                raise InputError(
                    f"method.pairs: '{ours}' of the student has {counts[0]} positions and '{theirs}' of the teacher "
                    f"{counts[1]}; expected as many, or two maps [channels, height, width], of which the larger can be "
                    "averaged down"
                )

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``task * CE + beta * mean over pairs of the maps' distance``."""
        apart = []
        for ours, theirs in self.pairs:
            mine, target = same_positions(student.taps[ours], teacher.taps[theirs].detach())
            apart.append(attention_transfer(mine, target, exponent=self.exponent, squared=self.squared))
        terms = Losses(attention=torch.stack(apart).mean(0)).weighted(attention=self.beta)
        if self.task_weight == 0:
            return terms
        return Losses(task=cross_entropy(student.logits, batch.labels)).weighted(task=self.task_weight) | terms
