"""What a measure is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from tutelage.measure.number import Number
from tutelage.measure.predicted import Predicted


class Measure(ABC):
    """Something measured about a model's predictions.

    Subclasses set ``group`` to one of `GROUPS`; ``requires_source`` when they compare with another model, which is
    then never ``None``; and ``takes`` to the names of further keyword arguments that `evaluate` hands them: ``train``
    (the subject's predictions on its training split), ``triggered`` (on samples that bear a trigger) or ``cost`` (what
    the engine counted). They are not called when one of these is missing. ``subject`` says what is measured:
    ``classes`` predicted for samples, or what a method's ``measured`` names; ``any`` fits all.
    """

    group: ClassVar[str]
    subject: ClassVar[str] = "classes"
    requires_source: ClassVar[bool] = False
    takes: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def __call__(self, subject: Predicted, source: Predicted | None = None) -> dict[str, Number]:
        """Measure.

        Args:
            subject: Predictions of the model in question.
            source: Predictions of the model it learnt from, for the same samples.

        Returns:
            Numbers by name.
        """

    @staticmethod
    def other(subject: Predicted, source: Predicted | None) -> Predicted:
        """The source's predictions in the subject's order.

        Raises:
            ValueError: There is none, or it is about other samples.
        """
        if source is None:
            raise ValueError("this measure compares with a source; there is none")
        return source.aligned_to(subject)
