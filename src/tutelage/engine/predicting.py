"""Forward passes over a whole split."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tutelage.data.splits import Examples, passing
from tutelage.losses import cross_entropy

Predict = Callable[[Tensor], Tensor]


class Predictions(NamedTuple):
    """What was predicted for a split, on the CPU.

    Args:
        logits: ``[count, classes]`` float32.
        labels: ``[count]`` int64.
        ids: ``[count]`` int64.
    """

    logits: Tensor
    labels: Tensor
    ids: Tensor


def predict(
    call: Predict, modules: tuple[nn.Module, ...], examples: Examples, device: torch.device, *, batch_size: int = 512
) -> Predictions:
    """Predict a split in evaluation mode, without a graph; the modules' modes are restored.

    Args:
        call: ``[batch, *input_shape]`` to ``[batch, classes]`` logits.
        modules: The models behind it.
        examples: The split.
        device: Where the models are.
        batch_size: Samples of one forward pass.
    """
    modes = [(part, part.training) for module in modules for part in module.modules()]
    logits, labels, ids = [], [], []
    try:
        for module in modules:
            module.eval()
        with torch.no_grad():
            for batch in passing(examples, batch_size):
                logits.append(call(batch.inputs.to(device)).float().cpu())
                labels.append(batch.labels)
                ids.append(batch.ids)
    finally:
        for part, mode in modes:
            part.training = mode
    return Predictions(torch.cat(logits), torch.cat(labels), torch.cat(ids))


def score(predictions: Predictions) -> dict[str, float]:
    """Accuracy and mean cross-entropy: what validation looks at."""
    correct = (predictions.logits.argmax(-1) == predictions.labels).float().mean()
    loss = cross_entropy(predictions.logits, predictions.labels).mean()
    return {"accuracy": float(correct), "loss": float(loss)}
