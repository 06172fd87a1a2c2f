"""How well learners' answers are predicted: what a model that traces knowledge is measured by."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, MinLen

from tutelage.data.answers import AnswerWindows
from tutelage.measure.answers import Answered, Predicting, predictions, predictions_ahead, summary
from tutelage.measure.base import Measure
from tutelage.measure.number import Number
from tutelage.measure.scored import Scored
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component


@component("measure", "tracing")
class Tracing(Measure):
    """AUC, accuracy, NLL and calibration of predicted answers, by how much was known, and several steps ahead.

    Every question counts once, however many concepts it has. Intervals are over learners.

    Args:
        first: Whether learners' first answers count, which are predicted without a history; pyKT leaves them out.
        known: Answers that predictions ahead start from.
        ahead: How many answers are predicted from them without seeing any in between; 0 for none.
        cold: Numbers of earlier answers that part the curve from a cold start.
    """

    group: ClassVar[str] = "quality"
    subject: ClassVar[str] = "answers"

    def __init__(
        self,
        *,
        first: bool = True,
        known: Annotated[int, Ge(0)] = 10,
        ahead: Annotated[int, Ge(0)] = 10,
        cold: Annotated[tuple[Annotated[int, Ge(0)], ...], MinLen(1)] = (0, 5, 10, 20, 50),
    ) -> None:
        self.first, self.known, self.ahead, self.cold = first, known, ahead, cold

    def __call__(self, subject: Any, source: Any = None) -> dict[str, Number]:
        """What was measured of it already."""
        return {}

    def answered(self, model: Predicting, test: AnswerWindows, device: torch.device | str = "cpu") -> Answered:
        """Predictions of all test answers that count.

        Raises:
            InputError: They are all right, or all wrong.
        """
        found = predictions(model, test, device)
        found = found if self.first else found.of(found.positions > 0)
        if not len(found) or not found.both:
            raise InputError(
                "the test answers are all right, or all wrong, or none is there: nothing can be told apart"
            )
        return found

    def scored(self, name: str, model: Predicting, test: AnswerWindows, device: torch.device | str = "cpu") -> Scored:
        """All scores of a model on test windows.

        Args:
            name: The model's.
            model: In evaluation mode.
            test: The windows.
            device: Where the model is.
        """
        found = self.answered(model, test, device)
        samples, who = {}, torch.empty(0, dtype=torch.int64)
        for key, values in (("auc", found.auc()), ("accuracy", found.accuracy()), ("nll", found.nll())):
            who, samples[key] = found.over_learners(values)
        numbers: dict[str, Number] = {}
        for place, low in enumerate(self.cold):
            high = self.cold[place + 1] if place + 1 < len(self.cold) else None
            part = found.of((found.positions >= low) & (found.positions < (high if high is not None else 1 << 60)))
            if len(part) and part.both:
                numbers[f"auc_after_{low}" + (f"_to_{high - 1}" if high is not None else "_on")] = part.mean(part.auc())
        if self.ahead:
            later = predictions_ahead(model, test, device, known=self.known, horizon=self.ahead)
            if later is not None:
                numbers |= {f"{key}_ahead": number for key, number in summary(later).items()}
        return Scored(
            name,
            who,
            {"quality": samples},
            {"quality": numbers, "calibration": {"ece": found.ece()}},
            lower_is_better=frozenset({"nll"}),
        )
