"""Linear probes: what can be read off frozen features by a linear classifier."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.measure.bootstrap import mean_interval
from tutelage.measure.number import Number


def linear_probe(
    train_features: Tensor, train_labels: Tensor, test_features: Tensor, test_labels: Tensor, *, strength: float = 1.0
) -> Number:
    """Accuracy on test features of a logistic regression on training features.

    Features are standardised by the training set's statistics, so that their scale does not decide how strongly the
    regression is held back: one procedure for every model that is compared.

    Args:
        train_features: ``[n, ...]``, flattened.
        train_labels: ``[n]`` int64, of at least two classes.
        test_features: ``[m, ...]``.
        test_labels: ``[m]`` int64.
        strength: Inverse of the L2 penalty, above 0.

    Returns:
        Share in [0, 1] with its bootstrap interval over test samples.

    Raises:
        ValueError: The lengths differ, or there is one class only.
    """
    from sklearn.linear_model import LogisticRegression

    if len(train_features) != len(train_labels) or len(test_features) != len(test_labels):
        counts = f"{len(train_features)} and {len(train_labels)}, {len(test_features)} and {len(test_labels)}"
        raise ValueError(f"features and labels number {counts}; expected as many of each")
    if len(train_labels.unique()) < 2:
        raise ValueError("the labels name one class only, so there is nothing to tell apart")
    train, test = (part.detach().double().cpu().flatten(1) for part in (train_features, test_features))
    mean, deviation = train.mean(0), train.std(0, unbiased=False)
    scale = torch.where(deviation > 0, deviation, 1.0)
    train, test = (train - mean) / scale, (test - mean) / scale
    model = LogisticRegression(C=strength, max_iter=1000).fit(train.numpy(), train_labels.cpu().numpy())
    return mean_interval(model.predict(test.numpy()) == test_labels.cpu().numpy())
