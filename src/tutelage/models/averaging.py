"""Averages of weights: over time within a run, and over models."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def _averages(value: Tensor) -> bool:
    return value.is_floating_point() or value.is_complex()


def _wide(value: Tensor) -> Tensor:
    """A copy to accumulate in: a small change of a half-precision weight would be rounded away."""
    narrow = value.is_floating_point() and value.element_size() < 4
    return value.detach().to(torch.float32 if narrow else value.dtype, copy=True)


def _some(names: Iterable[str], limit: int = 5) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(repr(name) for name in listed[:limit]) + more


def _matched(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], what: str) -> None:
    """Refuse a state whose names or shapes differ."""
    missing, unexpected = expected.keys() - found.keys(), found.keys() - expected.keys()
    if missing or unexpected:
        said = [f"lacks {_some(missing)}"] * bool(missing) + [f"has {_some(unexpected)} in addition"] * bool(unexpected)
        raise ValueError(f"{what} {' and '.join(said)}")
    for name, value in expected.items():
        if value.shape != found[name].shape:
            raise ValueError(f"{what}: '{name}' has the shape {tuple(found[name].shape)}, not {tuple(value.shape)}")


class _Running:
    """Averages kept beside a module, by the names of its state dict."""

    def __init__(self, module: nn.Module) -> None:
        state = module.state_dict()
        self._dtypes = {name: value.dtype for name, value in state.items()}
        self._average: dict[str, Tensor] = {name: _wide(value) for name, value in state.items()}

    @torch.no_grad()
    def _toward(self, module: nn.Module, share: float) -> None:
        state = module.state_dict()
        _matched(self._average, state, "the module to average")
        for name, value in self._average.items():
            new = state[name].detach().to(value.device, value.dtype)
            if _averages(value):
                # Where share is 1 this must be the new value exactly, not average + (new - average).
                value.copy_(new) if share == 1.0 else value.lerp_(new, share)
            else:
                value.copy_(new)

    def averaged(self) -> dict[str, Tensor]:
        """A full state dict, in the module's own number formats; integer buffers are those of the latest update."""
        return {name: value.to(self._dtypes[name], copy=True) for name, value in self._average.items()}

    def _load(self, average: Mapping[str, Tensor]) -> None:
        _matched(self._average, average, "the stored average")
        for name, value in self._average.items():
            value.copy_(average[name])


class EMA(_Running):
    """Exponential moving average of parameters and floating-point buffers; begins at the module as it is.

    ``average = decay * average + (1 - decay) * weights`` at each update, in float32 or wider.

    Args:
        module: What is averaged; its state dict is copied.
        decay: Share of the average that an update keeps, in [0, 1).

    Raises:
        ValueError: ``decay`` is out of range.
    """

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay is {decay}, expected a number in [0, 1)")
        super().__init__(module)
        self.decay = decay

    def update(self, module: nn.Module) -> None:
        """Move the average toward the module's weights.

        Raises:
            ValueError: The names or shapes of its state differ from those averaged so far.
        """
        self._toward(module, 1.0 - self.decay)

    def state_dict(self) -> dict[str, Any]:
        """The average at full width, and its decay."""
        return {"decay": self.decay, "average": dict(self._average)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a stored average.

        Raises:
            ValueError: It belongs to another model.
        """
        self._load(state["average"])
        self.decay = float(state["decay"])


class SWA(_Running):
    """Plain running mean of parameters and floating-point buffers (arXiv:1803.05407, algorithm 1); begins empty.

    The mean of batch statistics is not the statistics of the mean: use `update_bn` on what comes out.

    Args:
        module: A module of the kind that is averaged; its weights do not count until `update`.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.count = 0

    def update(self, module: nn.Module) -> None:
        """Count the module's weights in.

        Raises:
            ValueError: The names or shapes of its state differ from those averaged so far.
        """
        self._toward(module, 1.0 / (self.count + 1))
        self.count += 1

    def averaged(self) -> dict[str, Tensor]:
        """The mean as a full state dict; integer buffers are those of the latest update.

        Raises:
            ValueError: Nothing was counted in yet.
        """
        if not self.count:
            raise ValueError("the mean of no weights was asked for; update it first")
        return super().averaged()

    def state_dict(self) -> dict[str, Any]:
        """The mean at full width, and how many weights are in it."""
        return {"count": self.count, "average": dict(self._average)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a stored mean.

        Raises:
            ValueError: It belongs to another model.
        """
        self._load(state["average"])
        self.count = int(state["count"])


@torch.no_grad()
def update_bn(module: nn.Module, batches: Iterable[Tensor]) -> None:
    """Measure batch-normalisation statistics anew, as the plain mean over batches of each batch's mean and variance.

    All else runs in evaluation mode, as it will when the statistics are used. Modes and momenta are restored.
    Normalisation that is frozen inside a module otherwise trained keeps its statistics, and without any batch all do.

    Args:
        module: The model; without batch normalisation nothing is read or run.
        batches: ``[batch, *input_shape]`` inputs.
    """
    trained = any(p.requires_grad for p in module.parameters())

    def frozen(part: nn.Module) -> bool:
        own = list(part.parameters(recurse=False))
        return trained and bool(own) and not any(p.requires_grad for p in own)

    parts = [p for p in module.modules() if isinstance(p, _BatchNorm) and p.track_running_stats and not frozen(p)]
    if not parts:
        return
    modes = [(part, part.training) for part in module.modules()]
    momenta = [(part, part.momentum) for part in parts]
    device = next((t.device for t in (*module.parameters(), *module.buffers())), torch.device("cpu"))
    try:
        module.eval()
        for part in parts:
            part.train()
            part.momentum = None
        for index, inputs in enumerate(batches):
            if index == 0:
                for part in parts:
                    part.reset_running_stats()
            module(inputs.to(device))
    finally:
        for part, momentum in momenta:
            part.momentum = momentum
        for each, mode in modes:
            each.training = mode


@torch.no_grad()
def average_states(states: Sequence[Mapping[str, Tensor]], weights: Sequence[float] | None = None) -> dict[str, Tensor]:
    """Weighted mean of models by matched names, buffers included.

    Args:
        states: State dicts of one architecture.
        weights: How much each counts, not negative; they are divided by their sum. ``None``: all the same.

    Returns:
        A state dict in the number formats of the first; integer buffers are those of the state that counts most (the
        first of equals), for a mean of indices or counters means nothing.

    Raises:
        ValueError: No states, weights that do not fit them, or names or shapes that differ.
    """
    if not states:
        raise ValueError("the mean of no states was asked for")
    given = [1.0] * len(states) if weights is None else [float(w) for w in weights]
    if len(given) != len(states):
        raise ValueError(f"there are {len(given)} weights for {len(states)} states")
    total = math.fsum(given)
    if any(not math.isfinite(w) or w < 0 for w in given) or not 0 < total < math.inf:
        raise ValueError(f"weights must be finite, not negative and not all 0; they are {given}")
    first = states[0]
    for index, state in enumerate(states[1:], 1):
        _matched(first, state, f"state {index}, compared with state 0,")
    most = states[given.index(max(given))]
    out: dict[str, Tensor] = {}
    for name, value in first.items():
        if not _averages(value):
            out[name] = most[name].detach().clone()
            continue
        mean = torch.zeros_like(_wide(value))
        for state, weight in zip(states, given, strict=True):
            mean.add_(state[name].detach().to(mean.device, mean.dtype), alpha=weight / total)
        out[name] = mean.to(value.dtype)
    return out
