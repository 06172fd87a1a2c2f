"""Temperature scaling: the one number that repairs confidence after training (Guo et al., arXiv:1706.04599)."""

from __future__ import annotations

from dataclasses import replace

import torch

from tutelage.measure.predicted import Predicted

_STEPS = 100


def fitted_temperature(predicted: Predicted, *, low: float = 0.05, high: float = 20.0) -> float:
    """The temperature at which a model's predictions have the least cross-entropy with the labels.

    The cross-entropy is convex in 1 / T, so its slope is halved until nothing is left: no starting point, no rate.

    Args:
        predicted: Of a split that was neither trained nor is reported on.
        low: Smallest temperature looked at, above 0.
        high: Largest temperature looked at.

    Raises:
        ValueError: The bounds are no range of positive numbers.
    """
    if not 0 < low < high:
        raise ValueError(f"bounds must be a range of temperatures above 0, got {low} and {high}")
    logits = predicted.log_probabilities
    rows = torch.isfinite(logits).all(dim=1)
    logits, labels = logits[rows], predicted.labels[rows]
    if not len(logits):
        return 1.0
    right = logits.gather(1, labels[:, None])[:, 0]

    def slope(inverse: float) -> float:
        expected = (torch.softmax(inverse * logits, dim=1) * logits).sum(dim=1)
        return float((expected - right).mean())

    least, most = 1 / high, 1 / low
    for _ in range(_STEPS):
        middle = (least + most) / 2
        if slope(middle) < 0:
            least = middle
        else:
            most = middle
    return 2 / (least + most)


def scaled(predicted: Predicted, temperature: float) -> Predicted:
    """The same predictions at another temperature.

    Raises:
        ValueError: The temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    return replace(predicted, logits=predicted.logits / temperature)
