"""Samplers: where the inputs come from that models are compared on, beyond the data's own batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import nn

from tutelage.data.batch import Batch
from tutelage.engine.method import Room, Step, Turn
from tutelage.models.inert import evaluating
from tutelage.models.outputs import Outputs


def tried(step: Step, name: str = "student") -> Outputs:
    """What a model would answer: in evaluation mode, so that its statistics do not move by what is only tried.

    Args:
        step: With the inputs.
        name: The participant.
    """
    participant = step.participants[name]
    with evaluating(participant.module):
        return participant(step.batch)


class Sampler(nn.Module):
    """Gives the batch of a step. What it owns and learns is part of the method: saved, moved, resumed with it."""

    mixes: ClassVar[bool] = False
    """Whether its labels may be mixed: float, ``[batch, classes]``."""

    subject: ClassVar[str] = "classes"
    """What the methods measure that can use it, see `Method.measured`."""

    def setup(self, room: Room) -> None:
        """Place taps and build modules; called once a stage, before anything moves."""

    def sample(self, step: Step) -> Batch:
        """The batch that is compared on, in place of the step's."""
        raise NotImplementedError(f"{type(self).__name__} gives no batch")

    def turns(self) -> Sequence[Turn]:
        """Moves of its own, before the method's; name what it trains with ``Turn(owns=("sampler",))``."""
        return ()
