"""PFA: performance factors analysis as one logistic regression (Pavlik, Cen and Koedinger 2009)."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt
from torch import nn

from tutelage.data.answers import AnswerWindows
from tutelage.models.additive_tracer import AdditiveTracer
from tutelage.recipe.registry import method
from tutelage.trace.base import Fitted


class Regression(Fitted):
    """One logistic regression on all training answers, by scikit-learn.

    Args:
        strength: Inverse of the weight of the squared coefficients, as scikit-learn's ``C``.
        iterations: The most iterations of the solver.
    """

    def __init__(self, *, strength: float, iterations: int) -> None:
        super().__init__()
        self.strength, self.iterations = strength, iterations

    def fit_all(self, model: nn.Module, train: AnswerWindows, seed: int) -> None:
        """Features of all answers as a sparse table, then the regression."""
        import scipy.sparse as sp
        from sklearn.linear_model import LogisticRegression

        assert isinstance(model, AdditiveTracer)
        parts = [model.table(train.fetch(range(at, min(at + 16, len(train))))) for at in range(0, len(train), 16)]
        table = sp.vstack([part for part, _ in parts]).tocsr()
        answers = torch.cat([torch.from_numpy(right) for _, right in parts]).numpy()
        fitted = LogisticRegression(C=self.strength, max_iter=self.iterations).fit(table, answers)
        with torch.no_grad():
            model.weight.copy_(torch.from_numpy(fitted.coef_[0]))
            model.bias.copy_(torch.tensor(float(fitted.intercept_[0])))


@method("pfa", paper="https://doi.org/10.3233/978-1-60750-028-5-531", route="trace")
class PerformanceFactors(Regression):
    """Fit how easy each concept is, and what earlier right and wrong answers on it are worth.

    Args:
        strength: Inverse of the weight of the squared coefficients, as scikit-learn's ``C``.
        iterations: The most iterations of the solver.
    """

    wanted: ClassVar[str] = "pfa"

    def __init__(self, *, strength: Annotated[float, Gt(0)] = 1.0, iterations: Annotated[int, Ge(1)] = 1000) -> None:
        super().__init__(strength=strength, iterations=iterations)
