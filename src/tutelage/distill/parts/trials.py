"""What methods share that train several students in one run: a start, a stage, and what a model predicts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tutelage.data.splits import Examples
from tutelage.engine.method import Method, Train
from tutelage.engine.permission import trusts_pickle
from tutelage.engine.predicting import predict
from tutelage.engine.randomness import reseed
from tutelage.engine.supervised import LabelTraining
from tutelage.measure import Predicted
from tutelage.models.channels import see, seen
from tutelage.models.weights import load_weights
from tutelage.recipe.spec import Spec, TrainSection

if TYPE_CHECKING:
    from tutelage.engine.run import Run


def begun(run: Run, spec: Spec, *place: str | int) -> nn.Module:
    """A model on the run's device, initialised for a place in the run: the same place gives the same start.

    One whose recipe names a file of weights starts from these.
    """
    reseed(run.recipe.seed, *place)
    channels = spec.extras.get("channels")
    module: nn.Module = spec.build(seen(run.splits.info, channels))
    if isinstance(weights := spec.extras.get("weights"), str | Path):
        load_weights(module, weights, trust_pickle=trusts_pickle())
    return see(module, channels).to(run.accelerator.device)


def on_labels(run: Run, name: str, student: nn.Module, settings: TrainSection | None = None) -> Train:
    """A stage that trains a student as the control beside a transfer is trained."""
    return Train(name, LabelTraining("student"), {"student": student}, settings or run.recipe.train)


def by_teacher(
    run: Run,
    name: str,
    objective: Method,
    teacher: nn.Module,
    student: nn.Module,
    settings: TrainSection | None = None,
) -> Train:
    """A stage in which a student learns from a teacher."""
    objective.survey(run)
    return Train(name, objective, {"teacher": teacher, "student": student}, settings or run.recipe.train)


def predictions(
    run: Run,
    name: str,
    call: nn.Module | Callable[[Tensor], Tensor],
    *modules: nn.Module,
    examples: Examples | None = None,
) -> Predicted:
    """What is predicted for a split.

    Args:
        run: The run.
        name: Whose predictions they are.
        call: The model, or what asks it.
        modules: The models behind it; the call itself unless given.
        examples: The split; that of the report unless given.
    """
    asked = modules or ((call,) if isinstance(call, nn.Module) else ())
    found = predict(call, asked, examples or run.splits.test, run.accelerator.device)
    return Predicted(name, found.logits, found.labels, found.ids)


def accuracy(predicted: Predicted) -> float:
    """Share of right predictions."""
    return float(predicted.correct.double().mean())


def sample(run: Run, count: int, examples: Examples | None = None) -> tuple[Tensor, Tensor]:
    """The first samples of a split, those of the report unless given: inputs and labels on the run's device."""
    split = examples or run.splits.test
    batch = split.fetch(torch.arange(min(count, len(split)))).to(run.accelerator.device)
    return batch.inputs, batch.labels
