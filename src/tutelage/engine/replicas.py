"""Copies of a model in several processes: when gradients are averaged, and that none waits for another in vain."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from tutelage.engine.method import Turn


class Replica:
    """A replicated model that remembers what it gave out.

    Its wrapper waits for a gradient of everything that its output depends on. A loss that only looks at captures, or at
    some of the output, gives some of them none; `reached` makes up for it.

    Args:
        wrapped: The model in its wrapper.
    """

    def __init__(self, wrapped: Any) -> None:
        self.wrapped = wrapped
        self.outputs: list[Tensor] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model."""
        output = self.wrapped(*args, **kwargs)
        self.outputs.extend(tensor for tensor in _tensors(output) if tensor.requires_grad)
        return output

    def train(self, mode: bool = True) -> None:
        """Training or evaluation mode."""
        self.wrapped.train(mode)


class Replicas:
    """The models of a stage that are replicated.

    Args:
        accelerator: Devices and processes.
        models: Each in its wrapper, by name.
        sharded: Whether each process holds only a piece of them.
    """

    def __init__(self, accelerator: Accelerator, models: Mapping[str, nn.Module], *, sharded: bool) -> None:
        self.accelerator, self.models, self.sharded = accelerator, models, sharded
        self.found = {name: Replica(model) for name, model in models.items()} if self._several else {}

    @property
    def _several(self) -> bool:
        return bool(self.accelerator.num_processes > 1)

    def callable(self, name: str) -> Any:
        """What a forward pass goes through."""
        return self.models[name] if self.sharded or not self._several else self.found[name]

    @contextlib.contextmanager
    def part(self, turn: Turn, *, last: bool) -> Iterator[None]:
        """One forward and backward pass: gradients are averaged after the last part, of those that the turn trains."""
        if not self._several:
            yield
            return
        for replica in self.found.values():
            replica.outputs = []
        with contextlib.ExitStack() as stack:
            for name, model in self.models.items():
                own = name in turn.trains
                # What is in pieces keeps gradients that were not averaged where nobody clears them.
                if (own and not last) or (not own and not self.sharded):
                    stack.enter_context(self.accelerator.no_sync(model))
            yield

    def reached(self, turn: Turn, total: Tensor) -> Tensor:
        """The loss itself, whose backward pass comes by all that the trained models gave out."""
        outputs = [output for name, one in self.found.items() if name in turn.trains for output in one.outputs]
        if not outputs or self.sharded:
            return total
        reached: Tensor = _Reach.apply(total, *outputs)  # type: ignore[no-untyped-call]
        return reached


class _Reach(torch.autograd.Function):
    """Brings outputs that the loss does not look at no gradient.

    Not one of zeros: an optimiser would then move parameters, by weight decay or momentum, that it leaves alone in one
    process. And an output may be infinite, as a class that is masked away.
    """

    @staticmethod
    def forward(ctx: Any, total: Tensor, *outputs: Tensor) -> Tensor:
        ctx.count = len(outputs)
        return total.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return gradients[0], *(None for _ in range(ctx.count))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from _tensors(item)
