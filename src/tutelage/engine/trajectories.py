"""Callbacks that hand on an average of the weights that training went through, for flat minima (arXiv:2309.11446)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from tutelage.engine.callbacks import Callback
from tutelage.engine.looking import check_validation, loss_of, plain_batches, scores_of, wearing
from tutelage.engine.method import Step
from tutelage.engine.valley import Valley
from tutelage.models.averaging import SWA, update_bn
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component

if TYPE_CHECKING:
    from tutelage.engine.trainer import Trainer


class _Average(Callback):
    """A mean of weights over steps, which replaces them at the end; statistics of batches are then measured anew."""

    cpu_offload: bool

    def _empty(self, trainer: Trainer) -> SWA:
        return SWA(trainer.subject, device="cpu" if self.cpu_offload else None)

    def hand_on(self, trainer: Trainer, weights: Mapping[str, Tensor]) -> None:
        """Give the model these weights for good."""
        trainer.subject.load_state_dict(weights)
        update_bn(trainer.subject, trainer.batches(0))


def first_step(start: float, total: int, callback: str) -> int:
    """The first step that counts, from 1: ``start`` itself, or, below 1, that share of all steps.

    Raises:
        InputError: The stage is over before.
    """
    first = max(1, round(start * total if start < 1 else start))
    if first > total:
        raise InputError(
            f"'{callback}' starts at step {first}, but the stage has {total} steps: choose at most {total}, or a share "
            "below 1"
        )
    return first


@component("callback", "wakd")
class DenseAverage(_Average):
    """Mean of the weights after every step from a fixed start to the end, without looking at validation.

    It takes the place of the last weights of any method (WAKD's policy, arXiv:2309.11446).

    Args:
        start: First step that counts, from 1; below 1, the share of the stage before it.
        stride: Steps from one that counts to the next.
        cpu_offload: Keep the average in the CPU's memory.
    """

    def __init__(
        self, *, start: Annotated[float, Ge(0)] = 0.1, stride: Annotated[int, Ge(1)] = 1, cpu_offload: bool = True
    ) -> None:
        self.start, self.stride, self.cpu_offload = start, stride, cpu_offload
        self.first = 1
        self.average: SWA | None = None
        self._state: Mapping[str, Any] | None = None

    def started(self, trainer: Trainer) -> None:
        """Begin empty, or from the checkpoint's mean.

        Raises:
            InputError: The stage is over before the average starts.
        """
        self.first = first_step(self.start, trainer.total, type(self).__tutelage__[1])  # type: ignore[attr-defined]
        self.average = self._empty(trainer)
        if self._state is not None:
            self.average.load_state_dict(self._state)

    def stepped(self, trainer: Trainer, step: Step) -> None:
        """Add the weights to the mean."""
        assert self.average is not None
        if trainer.step >= self.first and (trainer.step - self.first) % self.stride == 0:
            self.average.update(trainer.subject)

    def finished(self, trainer: Trainer) -> None:
        """Hand on the mean."""
        assert self.average is not None
        if self.average.count:
            self.hand_on(trainer, self.average.averaged())

    def state_dict(self) -> dict[str, Any]:
        """The mean so far."""
        return dict(self.average.state_dict()) if self.average is not None else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Kept until the stage starts."""
        self._state = state or None


@component("callback", "sma")
class SimpleMovingAverage(DenseAverage):
    """Mean of the weights from an early step on, at the moment when that mean validated best (arXiv:2110.10832).

    Args:
        start: First step that counts, from 1; below 1, the share of the stage before it.
        stride: Steps from one that counts to the next.
        validate_every: Steps from one look at the validation accuracy of the mean to the next.
        cpu_offload: Keep the averages in the CPU's memory.
    """

    def __init__(
        self,
        *,
        start: Annotated[float, Ge(0)] = 0.1,
        stride: Annotated[int, Ge(1)] = 1,
        validate_every: Annotated[int, Ge(1)] = 100,
        cpu_offload: bool = True,
    ) -> None:
        super().__init__(start=start, stride=stride, cpu_offload=cpu_offload)
        self.validate_every = validate_every
        self.best: float | None = None
        self.weights: dict[str, Tensor] = {}

    def started(self, trainer: Trainer) -> None:
        """Begin empty, or from the checkpoint's mean.

        Raises:
            InputError: The stage is over before the average starts, or validation may not decide.
        """
        check_validation(trainer, "sma", "accuracy")
        super().started(trainer)

    def stepped(self, trainer: Trainer, step: Step) -> None:
        """Add the weights to the mean, and see how good it is."""
        super().stepped(trainer, step)
        assert self.average is not None
        if self.average.count and trainer.step % self.validate_every == 0:
            self._look(trainer)

    def finished(self, trainer: Trainer) -> None:
        """Hand on the mean that validated best."""
        assert self.average is not None
        if self.average.count and trainer.step % self.validate_every:
            self._look(trainer)
        if self.weights:
            self.hand_on(trainer, self.weights)

    def _look(self, trainer: Trainer) -> None:
        assert self.average is not None
        mean = self.average.averaged()
        with wearing(trainer.subject, mean):
            update_bn(trainer.subject, plain_batches(trainer))
            accuracy = scores_of(trainer)["accuracy"]
        if self.best is None or accuracy > self.best:
            self.best, self.weights = accuracy, mean

    def state_dict(self) -> dict[str, Any]:
        """The mean so far, and the best one."""
        return {"mean": super().state_dict(), "best": self.best, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Kept until the stage starts."""
        super().load_state_dict(state["mean"])
        self.best, self.weights = state["best"], dict(state["weights"])


@component("callback", "swad")
class StochasticWeightAverageDensely(_Average):
    """Mean of the weights over the steps in which validation was in one flat valley (arXiv:2102.08604).

    Weights are averaged over blocks of steps, and blocks from where the validation loss stops falling to where it is
    worse than tolerated. Without such a place, the weights at the end of the block that validated best are handed on.

    Args:
        validate_every: Steps of a block.
        n_converge: Losses among which the oldest must be the smallest for the average to begin.
        n_tolerance: Losses that must all be too large for it to end.
        tolerance_ratio: How many times larger a loss may be than those that it began with.
        loss: What is looked at: what the ``method`` minimises, or the cross-entropy with the ``labels``.
        cpu_offload: Keep the averages in the CPU's memory.
    """

    def __init__(
        self,
        *,
        validate_every: Annotated[int, Ge(1)] = 100,
        n_converge: Annotated[int, Ge(1)] = 3,
        n_tolerance: Annotated[int, Ge(1)] = 6,
        tolerance_ratio: Annotated[float, Gt(0)] = 1.3,
        loss: Literal["method", "labels"] = "method",
        cpu_offload: bool = True,
    ) -> None:
        self.validate_every, self.loss, self.cpu_offload = validate_every, loss, cpu_offload
        self.valley = Valley(n_converge=n_converge, n_tolerance=n_tolerance, tolerance_ratio=tolerance_ratio)
        self.block: SWA | None = None
        self.best: float | None = None
        self.weights: dict[str, Tensor] = {}
        self._state: Mapping[str, Any] | None = None

    def started(self, trainer: Trainer) -> None:
        """Begin a block, or go on with the checkpoint's.

        Raises:
            InputError: Validation may not decide.
        """
        check_validation(trainer, "swad", "loss")
        self.block = self._empty(trainer)
        if self._state is not None:
            self.block.load_state_dict(self._state)

    def stepped(self, trainer: Trainer, step: Step) -> None:
        """Add the weights to the block; at its end, look at the loss of the model as it is."""
        assert self.block is not None
        self.block.update(trainer.subject)
        if trainer.step % self.validate_every == 0:
            loss = loss_of(trainer) if self.loss == "method" else scores_of(trainer)["loss"]
            self.valley.add(loss, self.block.averaged())
            self.block = self._empty(trainer)
            if self.valley.average is not None:
                self.weights = {}
            elif self.best is None or loss < self.best:
                device = torch.device("cpu") if self.cpu_offload else trainer.device
                state = trainer.subject.state_dict()
                self.best, self.weights = loss, {n: t.detach().to(device, copy=True) for n, t in state.items()}

    def finished(self, trainer: Trainer) -> None:
        """Hand on the mean over the valley, or the best weights where there was none."""
        self.valley.finish()
        if self.valley.average is not None:
            self.hand_on(trainer, self.valley.average)
        elif self.weights:
            trainer.subject.load_state_dict(self.weights)
            trainer.listener.note(
                f"stage '{trainer.stage.name}': the validation loss never stopped falling, so that 'swad' averages "
                "nothing and hands on the weights that validated best"
            )

    def state_dict(self) -> dict[str, Any]:
        """The block, the valley and the best weights."""
        block = dict(self.block.state_dict()) if self.block is not None else {}
        return {"block": block, "valley": self.valley.state_dict(), "best": self.best, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Kept until the stage starts."""
        self._state = state["block"] or None
        self.valley.load_state_dict(state["valley"])
        self.best, self.weights = state["best"], dict(state["weights"])
