"""Fidelity: how closely the recipient follows its source, right or wrong."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from torch import Tensor

from tutelage.measure.base import Measure
from tutelage.measure.bootstrap import mean_interval
from tutelage.measure.number import Number
from tutelage.measure.predicted import Predicted
from tutelage.recipe.registry import component


@component("measure", "agreement")
class Agreement(Measure):
    """Share of samples for which subject and source predict the same class, in [0, 1] (arXiv:2106.05945)."""

    group: ClassVar[str] = "fidelity"
    requires_source: ClassVar[bool] = True

    def __call__(self, subject: Predicted, source: Predicted | None = None) -> dict[str, Number]:
        """``agreement``."""
        return {"agreement": mean_interval(agrees(subject, self.other(subject, source)).numpy())}


@component("measure", "kl")
class KullbackLeibler(Measure):
    """Mean divergence between the two models' distributions, in nats; >= 0, and 0 where they are equal.

    ``kl`` is forward, KL(source || subject); ``reverse_kl`` is KL(subject || source). Infinite (and then reported as
    not measurable) where one gives a class probability 0 that the other does not.

    Args:
        temperature: Both models' logits are divided by it first; no squared factor is applied.
    """

    group: ClassVar[str] = "fidelity"
    requires_source: ClassVar[bool] = True

    def __init__(self, *, temperature: Annotated[float, Gt(0)] = 1.0) -> None:
        self.temperature = temperature

    def __call__(self, subject: Predicted, source: Predicted | None = None) -> dict[str, Number]:
        """``kl`` and ``reverse_kl``."""
        mine, theirs = (
            torch.log_softmax(p.logits.double() / self.temperature, dim=1)
            for p in (subject, self.other(subject, source))
        )
        if mine.shape != theirs.shape:
            raise ValueError(f"a divergence needs the same classes, not {mine.shape[1]} and {theirs.shape[1]}")
        return {
            "kl": mean_interval(_divergence(theirs, mine).numpy()),
            "reverse_kl": mean_interval(_divergence(mine, theirs).numpy()),
        }


def agrees(subject: Predicted, source: Predicted) -> Tensor:
    """``[n]`` bool: whether the two predict the same class; a NaN output agrees with nothing."""
    return (subject.classes == source.classes) & (subject.classes >= 0)


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) per sample from log-probabilities ``[n, classes]``; 0 log 0 = 0."""
    terms = torch.where(p == -torch.inf, 0.0, p.exp() * (p - q))
    return terms.sum(dim=1)
