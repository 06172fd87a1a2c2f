"""Callbacks: what else happens while a stage trains."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt

from tutelage.engine.looking import check_validation
from tutelage.engine.method import Step
from tutelage.models.averaging import EMA, SWA, update_bn
from tutelage.recipe.registry import component

if TYPE_CHECKING:
    from tutelage.engine.trainer import Trainer


class Callback:
    """Hooks into the loop; its state is part of every checkpoint."""

    def started(self, trainer: Trainer) -> None:
        """The stage begins, from its start or from a checkpoint."""

    def stepped(self, trainer: Trainer, step: Step) -> None:
        """A step is done."""

    def validated(self, trainer: Trainer, epoch: int, scores: Mapping[str, float]) -> None:
        """An epoch is done; ``scores`` is empty where the data has no validation split."""

    def finished(self, trainer: Trainer) -> None:
        """The stage is done; what the models are now is what it hands on."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""


class _Watching(Callback):
    """A callback that needs validation scores."""

    metric: str

    def better(self, new: float, old: float | None, margin: float = 0.0) -> bool:
        """Whether a score improves on the best so far; one that is no number never does."""
        if old is None or math.isnan(new):
            return not math.isnan(new)
        return new > old + margin if self.metric == "accuracy" else new < old - margin

    def started(self, trainer: Trainer) -> None:
        """Refuse data that would leave it without anything to watch, or with what must not be looked at."""
        check_validation(trainer, type(self).__tutelage__[1], self.metric)  # type: ignore[attr-defined]


@component("callback", "ema")
class MovingAverage(Callback):
    """Exponential moving average of the weights, which replaces them at the end.

    Args:
        decay: Share of the average that is kept at each step.
    """

    def __init__(self, *, decay: Annotated[float, Gt(0), Lt(1)] = 0.999) -> None:
        self.decay = decay
        self.average: EMA | None = None
        self._state: Mapping[str, Any] | None = None

    def started(self, trainer: Trainer) -> None:
        """Begin from the weights as they are, or from the checkpoint's."""
        self.average = EMA(trainer.subject, decay=self.decay)
        if self._state is not None:
            self.average.load_state_dict(self._state)

    def stepped(self, trainer: Trainer, step: Step) -> None:
        """Move the average."""
        assert self.average is not None
        self.average.update(trainer.subject)

    def finished(self, trainer: Trainer) -> None:
        """Hand on the average."""
        assert self.average is not None
        trainer.subject.load_state_dict(self.average.averaged())

    def state_dict(self) -> dict[str, Any]:
        """The average."""
        return dict(self.average.state_dict()) if self.average is not None else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Kept until the stage starts."""
        self._state = state or None


@component("callback", "swa")
class StochasticWeightAverage(Callback):
    """Mean of the weights at the ends of the last epochs (arXiv:1803.05407), with batch statistics measured anew.

    Args:
        start: Share of the stage after which epochs count.
    """

    def __init__(self, *, start: Annotated[float, Ge(0), Lt(1)] = 0.75) -> None:
        self.start = start
        self.average: SWA | None = None
        self._state: Mapping[str, Any] | None = None

    def started(self, trainer: Trainer) -> None:
        """Begin empty, or from the checkpoint's mean."""
        self.average = SWA(trainer.subject)
        if self._state is not None:
            self.average.load_state_dict(self._state)

    def validated(self, trainer: Trainer, epoch: int, scores: Mapping[str, float]) -> None:
        """Add the epoch's weights to the mean."""
        assert self.average is not None
        if epoch + 1 > self.start * trainer.settings.epochs:
            self.average.update(trainer.subject)

    def finished(self, trainer: Trainer) -> None:
        """Hand on the mean."""
        assert self.average is not None
        if self.average.count:
            trainer.subject.load_state_dict(self.average.averaged())
            update_bn(trainer.subject, (batch.inputs for batch in trainer.batches(0)))

    def state_dict(self) -> dict[str, Any]:
        """The mean so far."""
        return dict(self.average.state_dict()) if self.average is not None else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Kept until the stage starts."""
        self._state = state or None


@component("callback", "early-stopping")
class EarlyStopping(_Watching):
    """Stop when validation has not improved for a while.

    Args:
        metric: What is watched on the validation split.
        patience: Epochs without improvement that are allowed.
        margin: Smallest change that counts as an improvement.
    """

    def __init__(
        self,
        *,
        metric: Literal["accuracy", "loss"] = "loss",
        patience: Annotated[int, Ge(1)] = 5,
        margin: Annotated[float, Ge(0)] = 0.0,
    ) -> None:
        self.metric, self.patience, self.margin = metric, patience, margin
        self.best: float | None = None
        self.waited = 0

    def validated(self, trainer: Trainer, epoch: int, scores: Mapping[str, float]) -> None:
        """Count, and stop when it has been long enough."""
        if self.better(scores[self.metric], self.best, self.margin):
            self.best, self.waited = scores[self.metric], 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            trainer.stop(f"validation {self.metric} has not improved for {self.waited} epochs")

    def state_dict(self) -> dict[str, Any]:
        """The best so far and how long ago it was."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting."""
        self.best, self.waited = state["best"], state["waited"]


@component("callback", "best-checkpoint")
class BestCheckpoint(_Watching):
    """Hand on the weights of the epoch that validated best.

    Args:
        metric: What is watched on the validation split.
    """

    def __init__(self, *, metric: Literal["accuracy", "loss"] = "accuracy") -> None:
        self.metric = metric
        self.best: float | None = None
        self.weights: dict[str, Any] = {}

    def validated(self, trainer: Trainer, epoch: int, scores: Mapping[str, float]) -> None:
        """Keep a copy where the epoch is the best so far."""
        if self.better(scores[self.metric], self.best):
            self.best = scores[self.metric]
            self.weights = copy.deepcopy(dict(trainer.subject.state_dict()))

    def finished(self, trainer: Trainer) -> None:
        """Hand on the best."""
        if self.weights:
            trainer.subject.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """The best weights and their score."""
        return {"best": self.best, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on comparing."""
        self.best, self.weights = state["best"], dict(state["weights"])


@component("callback", "time-budget")
class TimeBudget(Callback):
    """End the stage when it has trained for so long, resumed parts included.

    Args:
        minutes: The budget of wall-clock time.
    """

    def __init__(self, *, minutes: Annotated[float, Gt(0)]) -> None:
        self.minutes = minutes
        self.spent = 0.0
        self._began = time.perf_counter()

    def started(self, trainer: Trainer) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def stepped(self, trainer: Trainer, step: Step) -> None:
        """Look at the clock; all processes do what the first one says."""
        if trainer.agreed(self._elapsed() >= 60.0 * self.minutes):
            trainer.stop(f"the time budget of {self.minutes:g} minutes is spent")

    def _elapsed(self) -> float:
        return self.spent + time.perf_counter() - self._began

    def state_dict(self) -> dict[str, Any]:
        """Time spent."""
        return {"spent": self._elapsed()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.spent = state["spent"]
