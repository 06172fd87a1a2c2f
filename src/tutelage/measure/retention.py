"""Retention: which of the source's right answers survived."""

from __future__ import annotations

from typing import ClassVar

from tutelage.measure.base import Measure
from tutelage.measure.bootstrap import mean_interval
from tutelage.measure.number import Number
from tutelage.measure.predicted import Predicted
from tutelage.recipe.registry import component


@component("measure", "retention")
class Retention(Measure):
    """Of what the source gets right, the share that the subject gets right (``kept``) or wrong (``lost``), in [0, 1].

    With the recipient's former self as source this is the absence of forgetting. ``kept_class_3`` is the same among
    samples labelled 3; a class of which the source gets nothing right has none.
    """

    group: ClassVar[str] = "retention"
    requires_source: ClassVar[bool] = True

    def __call__(self, subject: Predicted, source: Predicted | None = None) -> dict[str, Number]:
        """``kept``, ``lost`` and ``kept_class_<label>``; nothing where the source is never right."""
        known = self.other(subject, source).correct
        if not known.any():
            return {}
        kept, labels = subject.correct[known], subject.labels[known]
        numbers = {"kept": mean_interval(kept.numpy()), "lost": mean_interval(~kept.numpy())}
        for label in sorted(set(labels.tolist())):
            numbers[f"kept_class_{label}"] = mean_interval(kept[labels == label].numpy())
        return numbers
