"""Losses and gradients that are not finite: found, named, and saved to look into."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tutelage.data.batch import Batch
from tutelage.engine import checkpoint
from tutelage.engine.meter import Meter
from tutelage.recipe.errors import RunError


@dataclass(frozen=True)
class Fault:
    """A number that should have been finite.

    Args:
        step: The step that made it.
        name: ``turn/term``, where the term may be ``loss`` (the sum) or ``gradient``.
        value: What it was.
    """

    step: int
    name: str
    value: float


def find_fault(meter: Meter, *, scaled: bool) -> Fault | None:
    """The first number since the last flush that is not finite.

    Args:
        meter: What was noted.
        scaled: Losses are scaled for half precision: the scaler skips steps with infinite gradients by itself.
    """
    for step, name, value in zip(meter.steps, meter.names, meter.numbers(), strict=True):
        if not math.isfinite(value) and not (scaled and name.endswith("/gradient")):
            return Fault(step, name, value)
    return None


def record_fault(
    fault: Fault,
    *,
    folder: Path,
    stage: str,
    epoch: int,
    batch: Batch | None,
    parameters: Mapping[str, nn.Parameter],
    state: Mapping[str, Any],
) -> RunError:
    """Save what is needed to look into a fault, and the error that says where it is."""
    term = fault.name.partition("/")[2]
    if term == "gradient":
        bad = [n for n, p in parameters.items() if p.grad is not None and not torch.isfinite(p.grad).all()]
        what = f"the gradient of {', '.join(bad[:3]) or 'the model'} is not finite"
    else:
        what = f"the loss term '{term}' is {fault.value}"
    content: dict[str, Any] = {**state, "fault": {"term": fault.name, "value": str(fault.value)}}
    if batch is not None:
        content["batch"] = {"inputs": batch.inputs, "labels": batch.labels, "ids": batch.ids, "seeds": batch.seeds}
    path = checkpoint.save(folder, fault.step, content, keep=1)
    return RunError(
        f"stopped at step {fault.step} of stage '{stage}' (epoch {epoch}): {what}. "
        f"The models, the optimiser and the batch are in {path}. "
        "A lower learning rate, train.clip_norm or precision: no are the usual cures."
    )
