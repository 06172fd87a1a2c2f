"""CAKT: deep knowledge tracing with learning curves (arXiv:2008.01169)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from tutelage.engine.method import Finding
from tutelage.models.cakt import CAKT
from tutelage.recipe.registry import method
from tutelage.trace.base import KnowledgeTracing

if TYPE_CHECKING:
    from tutelage.engine.run import Run


@method("cakt", paper="arXiv:2008.01169", route="trace")
class LearningCurveTracing(KnowledgeTracing):
    """Train convolutions over the last answers on a concept together with an LSTM over all.

    The paper selects the best epoch on the test set and starts its LSTMs at random; here validation decides, and they
    start at zero.
    """

    wanted: ClassVar[str] = "cakt"

    def __init__(self) -> None:
        super().__init__()

    def findings(self, run: Run) -> Mapping[str, Finding]:
        """Also how fast experience fades: what is left after a step, and after ten."""
        found = dict(super().findings(run))
        model = run.models[self.learner]
        assert isinstance(model, CAKT)
        if model.strength is not None:
            left = (-model.strength.detach().clamp_min(0.0)).exp()
            found |= {"left_after_a_step": float(left), "left_after_ten_steps": float(left**10)}
        return found
