"""AKT: context-aware attentive knowledge tracing (arXiv:2007.12324, KDD 2020)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from annotated_types import Ge

from tutelage.data.answers import AnswerBatch
from tutelage.engine.method import Room
from tutelage.engine.terms import Losses
from tutelage.models.akt import AKT
from tutelage.models.outputs import Outputs
from tutelage.recipe.registry import method
from tutelage.trace.base import KnowledgeTracing


@method("akt", paper="arXiv:2007.12324", route="trace")
class AttentiveTracing(KnowledgeTracing):
    """Train attention that decays with time, over embeddings that know how hard a question is.

    Args:
        difficulty: Weight of the squares of items' difficulties, where the data names items.
    """

    wanted: ClassVar[str] = "akt"

    def __init__(self, *, difficulty: Annotated[float, Ge(0)] = 1e-5) -> None:
        super().__init__()
        self.difficulty = difficulty
        self._model: tuple[AKT, ...] = ()

    def setup(self, room: Room) -> None:
        """Remember the model, whose difficulties are kept small."""
        model = room.modules[self.learner]
        assert isinstance(model, AKT)
        self._model = (model,)

    def loss(self, outputs: Outputs, batch: AnswerBatch) -> Losses:
        """The next answer, and the difficulties of the items that were asked."""
        terms, model = super().loss(outputs, batch), self._model[0]
        if not model.info.items:
            return terms
        hard = model.difficulties(batch.items)[batch.real]
        return (terms | Losses(difficulty=(hard**2).sum())).weighted(difficulty=self.difficulty)
