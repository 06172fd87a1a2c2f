"""DKT: deep knowledge tracing with an LSTM (arXiv:1506.05908, NIPS 2015)."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge

from tutelage.data.answers import AnswerBatch
from tutelage.engine.method import Room
from tutelage.engine.terms import Losses
from tutelage.losses.tracing import answer_loss, waviness
from tutelage.models.dkt import DKT, DKTOutputs
from tutelage.models.outputs import Outputs
from tutelage.recipe.registry import method
from tutelage.trace.base import KnowledgeTracing


@method("dkt", paper="arXiv:1506.05908", route="trace")
class DeepKnowledgeTracing(KnowledgeTracing):
    """Train an LSTM over learners' answers; its regularisers make it DKT+ (arXiv:1806.02180).

    Args:
        reconstruction: Weight of the loss of the answer just given, which a state should not forget at once.
        absolute: Weight of the mean absolute change of all predictions from step to step.
        squared: Weight of the root of their mean squared change.
    """

    wanted: ClassVar[str] = "dkt"

    def __init__(
        self,
        *,
        reconstruction: Annotated[float, Ge(0)] = 0.0,
        absolute: Annotated[float, Ge(0)] = 0.0,
        squared: Annotated[float, Ge(0)] = 0.0,
    ) -> None:
        super().__init__()
        self.reconstruction, self.absolute, self.squared = reconstruction, absolute, squared
        self._model: tuple[DKT, ...] = ()

    def setup(self, room: Room) -> None:
        """Ask for the states where a regulariser reads all concepts from them."""
        model = room.modules[self.learner]
        assert isinstance(model, DKT)
        self._model = (model,)
        model.exposed = bool(self.reconstruction or self.absolute or self.squared)

    def loss(self, outputs: Outputs, batch: AnswerBatch) -> Losses:
        """The next answer, and what regularises."""
        terms = super().loss(outputs, batch)
        if not isinstance(outputs, DKTOutputs) or outputs.states is None:
            return terms
        every = self._model[0].every(outputs.states)
        same = every.gather(-1, batch.inputs[..., :1].clamp_min(0))[..., 0]
        absolute, squared = waviness(torch.sigmoid(every), batch.real)
        again = answer_loss(same, batch.labels, batch.scored)
        more = Losses(reconstruction=again, absolute=absolute, squared=squared)
        weights = {"reconstruction": self.reconstruction, "absolute": self.absolute, "squared": self.squared}
        return (terms | more).weighted(**weights)
