"""Loss around a minimum, along filter-normalised directions (arXiv:1712.09913), and how gradients agree there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from tutelage.models.inert import evaluating


@dataclass(frozen=True)
class Landscape:
    """Losses on a grid around a model's weights.

    Args:
        positions: ``[steps]`` from -radius to radius.
        grid: ``[steps, steps]``: loss at weights + a · first + b · second direction.
    """

    positions: Tensor
    grid: Tensor

    @property
    def centre(self) -> float:
        """The model's own loss."""
        return float(self.grid[len(self.positions) // 2, len(self.positions) // 2])

    @property
    def line(self) -> Tensor:
        """``[steps]``: the losses along the first direction alone."""
        return self.grid[:, len(self.positions) // 2]

    def sharpness(self, radius: float = 0.5) -> float:
        """Mean rise of the loss over the grid points whose distance from the centre is nearest to ``radius``."""
        apart = (self.positions[:, None].square() + self.positions[None, :].square()).sqrt()
        spacing = float(self.positions[1] - self.positions[0])
        ring = (apart - radius).abs() <= spacing / 2 + 1e-6
        return float(self.grid[ring].mean()) - self.centre

    def dents(self) -> int:
        """Local minima beside the first along the grid's rows and columns: 0 where every slice has a single valley."""
        slices = torch.cat([self.grid, self.grid.T])
        inside = (slices[:, 1:-1] < slices[:, :-2]) & (slices[:, 1:-1] < slices[:, 2:])
        ends = (slices[:, 0] < slices[:, 1]).long() + (slices[:, -1] < slices[:, -2]).long()
        return int((inside.sum(1) + ends - 1).clamp(min=0).sum())


def filter_normalized(module: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """A random direction in which every filter is as long as the weights' own (section 4).

    Filters are the rows of weights of two axes or more; biases and normalisation layers do not move.

    Args:
        module: The model.
        generator: Where randomness comes from.

    Returns:
        Tensors by parameter name.
    """
    direction = {}
    for name, parameter in module.named_parameters():
        if parameter.ndim < 2:
            direction[name] = torch.zeros_like(parameter)
            continue
        noise = torch.randn(parameter.shape, generator=generator).to(parameter)
        lengths = [tensor.detach().flatten(1).norm(dim=1) for tensor in (parameter, noise)]
        factor = lengths[0] / lengths[1].clamp(min=1e-12)
        direction[name] = noise * factor.view(-1, *(1 for _ in parameter.shape[1:]))
    return direction


def loss_landscape(
    module: nn.Module, inputs: Tensor, labels: Tensor, *, steps: int = 21, radius: float = 1.0, seed: int = 0
) -> Landscape:
    """The loss on a plane through a model's weights, in evaluation mode; the model is as before afterwards.

    Args:
        module: The model.
        inputs: ``[batch, *input_shape]`` of a fixed subset, on the model's device.
        labels: ``[batch]`` int64.
        steps: Points along each direction, odd so that the centre is among them.
        radius: How far to go, in lengths of the filters.
        seed: Seed of the two directions.

    Raises:
        ValueError: ``steps`` is even or below 3.
    """
    if steps < 3 or steps % 2 == 0:
        raise ValueError(f"a landscape needs an odd number of steps, at least 3, so that it has a centre; got {steps}")
    generator = torch.Generator().manual_seed(seed)
    directions = [filter_normalized(module, generator) for _ in range(2)]
    positions = torch.linspace(-radius, radius, steps)
    positions[steps // 2] = 0.0
    grid = torch.empty(steps, steps)
    with evaluating(module), torch.no_grad():
        for i, a in enumerate(positions.tolist()):
            for j, b in enumerate(positions.tolist()):
                with _moved(module, directions, (a, b)):
                    grid[i, j] = float(cross_entropy(module(inputs).float(), labels))
    return Landscape(positions, grid)


@contextmanager
def _moved(module: nn.Module, directions: Sequence[Mapping[str, Tensor]], by: Sequence[float]) -> Iterator[None]:
    own = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    try:
        for name, parameter in module.named_parameters():
            parameter.copy_(sum((w * d[name] for w, d in zip(by, directions, strict=True)), own[name]))
        yield
    finally:
        for name, parameter in module.named_parameters():
            parameter.copy_(own[name])


@dataclass(frozen=True)
class Gradients:
    """Gradients of successive batches at one place.

    Args:
        norm: Their mean length.
        variance: The variance of their lengths over the squared mean.
        cosine: The mean cosine between one and the next, in [-1, 1].
    """

    norm: float
    variance: float
    cosine: float


def successive_gradients(module: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> Gradients:
    """How alike the gradients of successive batches are at a model's weights, which stay where they are.

    Args:
        module: The model; asked in evaluation mode.
        batches: At least two of ``[batch, *input_shape]`` inputs and ``[batch]`` labels, on the model's device.

    Raises:
        ValueError: There are fewer than two batches.
    """
    if len(batches) < 2:
        raise ValueError(f"successive gradients need at least 2 batches, got {len(batches)}")
    parameters = list(module.parameters())
    flags = [parameter.requires_grad for parameter in parameters]
    found = []
    try:
        module.requires_grad_(True)
        with evaluating(module), torch.enable_grad():
            for inputs, labels in batches:
                loss = cross_entropy(module(inputs).float(), labels)
                parts = torch.autograd.grad(loss, parameters, allow_unused=True)
                found.append(torch.cat([part.flatten() for part in parts if part is not None]))
    finally:
        for parameter, flag in zip(parameters, flags, strict=True):
            parameter.requires_grad_(flag)
    lengths = torch.stack([gradient.norm() for gradient in found])
    cosines = torch.stack([cosine_similarity(a, b, dim=0) for a, b in itertools.pairwise(found)])
    mean = float(lengths.mean())
    return Gradients(mean, float(lengths.var(correction=0)) / max(mean**2, 1e-30), float(cosines.mean()))
