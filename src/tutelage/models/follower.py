"""Teachers that follow the student: a moving average of it, or what it was at the end of an epoch."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component
from tutelage.recipe.types import Of


class Follower(nn.Module):
    """A frozen copy of the student that the engine keeps up to date.

    Args:
        data: What it is built for.
        of: What is followed: the student unless given.

    Raises:
        InputError: Nothing is followed.
    """

    follows: ClassVar[bool] = True
    begun: Tensor

    def __init__(self, data: DataInfo, of: Any) -> None:
        super().__init__()
        if of is None:
            raise InputError(f"a '{type(self).__name__.lower()}' follows a student, and there is none")
        self.model: nn.Module = of if isinstance(of, nn.Module) else of.build(data)
        self.register_buffer("begun", torch.zeros((), dtype=torch.bool))

    def forward(self, inputs: Tensor) -> Tensor:
        """``[batch, *input_shape]`` to ``[batch, classes]`` logits."""
        logits: Tensor = self.model(inputs)
        return logits

    @property
    def standard_taps(self) -> dict[str, str] | None:
        """Those of the model inside."""
        inner = getattr(self.model, "standard_taps", None)
        return None if inner is None else {name: f"model.{path}" for name, path in inner.items()}

    def begin(self, student: nn.Module) -> None:
        """Start where the student starts; not again in a stage that goes on."""
        if not bool(self.begun):
            self.copy(student)
            self.begun.fill_(True)

    @torch.no_grad()
    def copy(self, student: nn.Module) -> None:
        """Become what the student is now.

        Raises:
            InputError: The two are not built alike.
        """
        own, theirs = self.model.state_dict(), student.state_dict()
        if {n: t.shape for n, t in own.items()} != {n: t.shape for n, t in theirs.items()}:
            raise InputError(
                f"a '{type(self).__name__.lower()}' must be built like the student it follows; leave out 'of'"
            )
        for name, tensor in own.items():
            tensor.copy_(theirs[name])

    def stepped(self, student: nn.Module) -> None:
        """After an optimiser step."""

    def epoch_ended(self, student: nn.Module) -> None:
        """After an epoch."""


@component("model", "ema")
class Ema(Follower):
    """A teacher that is the moving average of the student's weights (mean teacher, arXiv:1703.01780).

    Args:
        data: What it is built for.
        decay: Share of the average that stays at each step, in [0, 1).
        of: How it is built; null for like the student.
    """

    def __init__(
        self,
        data: DataInfo,
        /,
        *,
        decay: Annotated[float, Ge(0), Lt(1)] = 0.999,
        of: Annotated[Any, Of("model")] | None = None,
    ) -> None:
        super().__init__(data, of)
        self.decay = decay

    @torch.no_grad()
    def stepped(self, student: nn.Module) -> None:
        """Move towards the student; whole numbers and statistics are taken over."""
        theirs = student.state_dict()
        parameters = {name for name, _ in self.model.named_parameters()}
        for name, tensor in self.model.state_dict().items():
            if name in parameters:
                tensor.lerp_(theirs[name].to(tensor.dtype), 1.0 - self.decay)
            else:
                tensor.copy_(theirs[name])


@component("model", "snapshot")
class Snapshot(Follower):
    """A teacher that is the student at the end of an earlier epoch.

    Args:
        data: What it is built for.
        every: Epochs between two snapshots.
        of: How it is built; null for like the student.
    """

    epochs: Tensor

    def __init__(
        self, data: DataInfo, /, *, every: Annotated[int, Ge(1)] = 1, of: Annotated[Any, Of("model")] | None = None
    ) -> None:
        super().__init__(data, of)
        self.every = every
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))

    def epoch_ended(self, student: nn.Module) -> None:
        """Every so many epochs, become what the student is."""
        self.epochs += 1
        if int(self.epochs) % self.every == 0:
            self.copy(student)
