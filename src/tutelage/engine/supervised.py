"""Plain training on labels: of a source that needs it, and of the control that a transfer is compared with."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.engine.method import Method, Step, Turn
from tutelage.engine.terms import Losses
from tutelage.losses import cross_entropy


class LabelTraining(Method):
    """Minimise the cross-entropy of one participant.

    Args:
        participant: Its name.
    """

    def __init__(self, participant: str) -> None:
        super().__init__()
        self.participant = participant

    def turns(self) -> Sequence[Turn]:
        """One."""
        return (Turn("train", self.task, trains=(self.participant,)),)

    def task(self, step: Step) -> Losses:
        """Cross-entropy with the labels, per sample."""
        return Losses(task=cross_entropy(step.forward(self.participant).logits, step.batch.labels))
