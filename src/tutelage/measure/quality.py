"""Quality: how good the predictions are."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from tutelage.measure.base import Measure
from tutelage.measure.bootstrap import mean_interval
from tutelage.measure.number import Number
from tutelage.measure.predicted import Predicted
from tutelage.recipe.registry import component


class Quality(Measure):
    """A mean of per-sample values; only such a measure can say what arrived, for differences and gaps pair samples."""

    group: ClassVar[str] = "quality"
    higher_is_better: ClassVar[bool] = True

    @property
    @abstractmethod
    def key(self) -> str:
        """The name its number is reported under."""

    @abstractmethod
    def per_sample(self, subject: Predicted) -> Tensor:
        """``[n]`` values whose mean is the measure."""

    def __call__(self, subject: Predicted, source: Predicted | None = None) -> dict[str, Number]:
        """The mean over samples, with its bootstrap interval."""
        return {self.key: mean_interval(self.per_sample(subject).numpy())}


@component("measure", "accuracy")
class Accuracy(Quality):
    """Share of samples whose label is among the most probable classes, in [0, 1].

    Args:
        top: How many of the most probable classes count; with 1, the predicted class alone. Reported as
            ``top5_accuracy`` for 5.
    """

    def __init__(self, *, top: Annotated[int, Ge(1)] = 1) -> None:
        self.top = top

    @property
    def key(self) -> str:
        """``accuracy``, or ``top5_accuracy``."""
        return "accuracy" if self.top == 1 else f"top{self.top}_accuracy"

    def per_sample(self, subject: Predicted) -> Tensor:
        """``[n]`` bool."""
        if self.top == 1:
            return subject.correct
        best = subject.logits.topk(min(self.top, subject.logits.shape[1]), dim=1).indices
        return (best == subject.labels[:, None]).any(dim=1) & (subject.classes >= 0)


@component("measure", "nll")
class NegativeLogLikelihood(Quality):
    """Mean cross-entropy of the labels, in nats; >= 0, lower is better."""

    higher_is_better: ClassVar[bool] = False
    key: ClassVar[str] = "nll"

    def per_sample(self, subject: Predicted) -> Tensor:
        """``[n]`` float64."""
        return subject.losses


@component("measure", "brier")
class Brier(Quality):
    """Squared distance between the predicted distribution and the label, summed over classes; in [0, 2].

    Lower is better. The multi-class score of Brier (1950), without the factor one half that some libraries apply to
    two classes.
    """

    higher_is_better: ClassVar[bool] = False
    key: ClassVar[str] = "brier"

    def per_sample(self, subject: Predicted) -> Tensor:
        """``[n]`` float64."""
        label = torch.nn.functional.one_hot(subject.labels, subject.logits.shape[1])
        distance: Tensor = (subject.probabilities - label).square().sum(dim=1)
        return distance
