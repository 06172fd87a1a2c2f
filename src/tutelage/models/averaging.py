"""Weight arithmetic: averages of state dicts by matched names, buffers included."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tutelage.data.batch import Batch
from tutelage.models.freezing import stays_in_eval
from tutelage.recipe.errors import nearest

State = Mapping[str, Tensor]


def mix(first: State, second: State, share: float) -> dict[str, Tensor]:
    """``(1 - share) * first + share * second``, entry by entry; neither is changed.

    Computed in at least float32 and returned in the first's types. Whole numbers and truth values, such as the counters
    of batch normalisation, have no mean: they are the second's.

    Args:
        first: State dict.
        second: State dict with the same names and shapes.
        share: Weight of the second; any real number, outside [0, 1] it extrapolates.

    Raises:
        ValueError: Names or shapes differ; the text says which.
    """
    _match(first, second)
    return {name: _mixed(tensor, second[name], share).to(tensor.dtype) for name, tensor in first.items()}


def ema(average: State, current: State, decay: float) -> dict[str, Tensor]:
    """``decay * average + (1 - decay) * current``, see `mix`.

    Args:
        average: The average so far.
        current: The new weights.
        decay: Share of the average that is kept, in [0, 1].
    """
    return mix(average, current, 1.0 - decay)


def running_mean(average: State, current: State, count: int) -> dict[str, Tensor]:
    """Mean of ``count + 1`` states, of which ``average`` is the mean of the first ``count``, see `mix`."""
    return mix(average, current, 1.0 / (count + 1))


def average_states(states: Sequence[State], weights: Sequence[float] | None = None) -> dict[str, Tensor]:
    """Weighted mean of state dicts, by matched names; buffers included, whole numbers from the last.

    Args:
        states: State dicts with the same names and shapes, in any order of names.
        weights: One for each, not negative, with a positive sum, by which they are divided; equal unless given.

    Raises:
        ValueError: There is no state, names or shapes differ, or the weights do not fit.
    """
    if not states:
        raise ValueError("there is no state to average")
    shares = [1.0] * len(states) if weights is None else [float(weight) for weight in weights]
    if len(shares) != len(states) or not 0 < sum(shares) < math.inf or min(shares) < 0:
        raise ValueError(f"{len(states)} states need as many weights, none negative, with a positive sum, not {shares}")
    for other in states[1:]:
        _match(states[0], other)
    out: dict[str, Tensor] = {}
    for name, tensor in states[0].items():
        if not _averaged(tensor):
            out[name] = states[-1][name].detach().clone()
            continue
        total = torch.zeros_like(tensor, dtype=_wide(tensor))
        for state, share in zip(states, shares, strict=True):
            total.add_(state[name].detach().to(total), alpha=share / sum(shares))
        out[name] = total.to(tensor.dtype)
    return out


class Average:
    """A moving average of a module's state, kept in at least float32; its own state resumes exactly.

    Args:
        module: The module that is averaged; its state now is the average so far.
        device: Where the average is kept; ``None`` for where the module is.

    Attributes:
        count: How many states were taken in.
    """

    def __init__(self, module: nn.Module, *, device: torch.device | str | None = None) -> None:
        state = module.state_dict()
        self.count = 0
        self._types = {name: tensor.dtype for name, tensor in state.items()}
        self._average = {
            name: tensor.detach().to(device or tensor.device, _wide(tensor), copy=True)
            for name, tensor in state.items()
        }

    def share(self) -> float:
        """Weight of the next state."""
        raise NotImplementedError

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the module's state as it is now.

        Raises:
            ValueError: Its names or shapes are not those of the average.
        """
        state, share = module.state_dict(), self.share()
        _match(self._average, state)
        for name, tensor in self._average.items():
            tensor.copy_(_mixed(tensor, state[name], share))
        self.count += 1

    def averaged(self) -> dict[str, Tensor]:
        """The average, a copy in the module's own types, as `load_state_dict` takes it."""
        return {name: tensor.to(self._types[name], copy=True) for name, tensor in self._average.items()}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        return {"count": self.count, "average": dict(self._average)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: It is another module's.
        """
        _match(self._average, state["average"])
        with torch.no_grad():
            for name, tensor in self._average.items():
                tensor.copy_(state["average"][name])
        self.count = int(state["count"])


class EMA(Average):
    """Exponential moving average that begins at the weights it was made with.

    Args:
        module: The module that is averaged.
        decay: Share of the average that is kept at each update, in [0, 1].
        warmup: Keep less at first, ``(1 + n) / (10 + n)`` at update n, so that the beginning is forgotten sooner.
    """

    def __init__(self, module: nn.Module, *, decay: float = 0.999, warmup: bool = False) -> None:
        if not 0.0 <= decay <= 1.0:
            raise ValueError(f"the decay of a moving average must lie in [0, 1], not {decay}")
        super().__init__(module)
        self.decay, self.warmup = decay, warmup

    def share(self) -> float:
        """Weight of the next state."""
        decay = min(self.decay, (1 + self.count) / (10 + self.count)) if self.warmup else self.decay
        return 1.0 - decay


class SWA(Average):
    """Plain mean of the states that were taken in (arXiv:1803.05407); the weights it was made with do not count.

    Batch normalisation's statistics belong to none of the averaged networks: follow with `update_bn`.

    Args:
        module: The module that is averaged.
    """

    def share(self) -> float:
        """Weight of the next state."""
        return 1.0 / (self.count + 1)


@torch.no_grad()
def update_bn(module: nn.Module, batches: Iterable[Tensor | Batch]) -> None:
    """Measure the running statistics of batch normalisation anew: their mean over all batches, each counted equally.

    Everything else is in evaluation mode meanwhile (dropout drops nothing); modes and momenta are as before afterwards.
    Frozen statistics do not move, and without a batch none do.

    Args:
        module: The model; a module without batch normalisation is left alone and the batches are not read.
        batches: Inputs ``[batch, *input_shape]``, or batches of samples.
    """
    norms = [
        part
        for part in module.modules()
        if isinstance(part, _BatchNorm) and part.track_running_stats and not stays_in_eval(part)
    ]
    if not norms:
        return
    modes = [(part, part.training) for part in module.modules()]
    momenta = [(part, part.momentum) for part in norms]
    module.eval()
    try:
        for part in norms:
            # No momentum means a cumulative mean.
            part.momentum = None
            part.training = True
        for index, batch in enumerate(batches):
            if index == 0:
                for part in norms:
                    part.reset_running_stats()
            module(batch.inputs if isinstance(batch, Batch) else batch)
    finally:
        for part, momentum in momenta:
            part.momentum = momentum
        for each, mode in modes:
            each.training = mode


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32) if _averaged(tensor) else tensor.dtype


def _averaged(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _mixed(first: Tensor, second: Tensor, share: float) -> Tensor:
    if not _averaged(first):
        return second.detach().to(first.device, first.dtype, copy=True)
    wide = _wide(first)
    return torch.lerp(first.detach().to(wide), second.detach().to(first.device, wide), share)


def _match(first: State, second: State) -> None:
    lost, extra = [n for n in first if n not in second], [n for n in second if n not in first]
    if lost:
        raise ValueError(f"the states do not match: '{lost[0]}' is missing in one. {nearest(lost[0], extra or second)}")
    if extra:
        raise ValueError(f"the states do not match: '{extra[0]}' is in one only. {nearest(extra[0], first)}")
    for name, tensor in first.items():
        if tensor.shape != second[name].shape:
            shapes = f"{list(tensor.shape)} and {list(second[name].shape)}"
            raise ValueError(f"the states do not match: '{name}' has the shapes {shapes}")
