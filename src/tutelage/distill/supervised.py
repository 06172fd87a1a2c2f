"""Supervised: plain training on labels (Rumelhart, Hinton and Williams 1986), which makes teachers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from tutelage.distill.base import sequence
from tutelage.engine.method import Result, Train
from tutelage.engine.supervised import LabelTraining
from tutelage.recipe.registry import method

if TYPE_CHECKING:
    from tutelage.engine.run import Run


@method("supervised", paper="doi:10.1038/323533a0", route="distill")
class Supervised(LabelTraining):
    """Train one model on the labels, without any teacher.

    What comes out can teach: ``weights: runs/<this run>`` in another recipe. It is trained just as the control beside
    a transfer is, so there is no control to compare it with, and ``baseline`` does nothing.
    """

    slots: ClassVar[dict[str, str]] = {"student": "model", "data": "data"}

    compared: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__("student")

    def stages(self, run: Run) -> Iterator[Train]:
        """One stage, or those of the recipe: each goes on with the model of the last."""
        yield from sequence(self, run, "train")

    def results(self, run: Run) -> Sequence[Result]:
        """The model."""
        student = run.models["student"]
        return (Result("student", student, "recipient", (student,)),)
