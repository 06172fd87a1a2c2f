"""Losses and gradients that are not finite: found, named, and saved to look into."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tutelage.data.batch import Batch
from tutelage.engine import checkpoint
from tutelage.engine.meter import Noted
from tutelage.recipe.errors import RunError


def find_fault(noted: Iterable[Noted], *, scaled: bool) -> Noted | None:
    """The first number that is not finite.

    Args:
        noted: Numbers in the order in which they were made.
        scaled: Losses are scaled for half precision: the scaler skips steps with infinite gradients by itself.
    """
    for number in noted:
        if not math.isfinite(number.value) and not (scaled and number.name.endswith("/gradient")):
            return number
    return None


def record_fault(
    fault: Noted,
    *,
    folder: Path,
    stage: str,
    epoch: int,
    batch: Batch | None,
    parameters: Mapping[str, nn.Parameter],
    state: Mapping[str, Any],
) -> RunError:
    """Save what is needed to look into a fault, and the error that says where it is."""
    turn, _, term = fault.name.partition("/")
    if term == "gradient":
        bad = [n for n, p in parameters.items() if p.grad is not None and not torch.isfinite(p.grad).all()]
        what = f"the gradient of {', '.join(bad[:3]) or 'the model'} is not finite"
    else:
        what = f"the loss term '{term}' is {fault.value}"
    content: dict[str, Any] = {**state, "fault": {"term": fault.name, "value": str(fault.value)}}
    if batch is not None:
        content["batch"] = {"inputs": batch.inputs, "labels": batch.labels, "ids": batch.ids, "seeds": batch.seeds}
        wrong = [int(i) for i, x in zip(batch.ids, batch.inputs, strict=True) if not torch.isfinite(x).all()]
        if wrong:
            what += f", as are the inputs of sample {', '.join(map(str, wrong[:3]))}"
    path = checkpoint.save(folder, fault.step, content, keep=1)
    return RunError(
        f"stopped at step {fault.step} of stage '{stage}' (epoch {epoch}, turn '{turn}'): {what}. "
        f"The models, the optimiser and the batch are in {path}. "
        "A lower learning rate, train.clip_norm or precision: no are the usual cures."
    )
