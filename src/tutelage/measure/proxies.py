"""What an untrained network's own arithmetic says of how well it will learn: the zero-cost scores of the field.

Every function takes a network at its start and leaves it alone: it looks at a copy whose normalisation uses the
batch's own statistics, for running ones mean nothing yet. Higher is better.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tutelage.models.standard import parameters_of
from tutelage.models.taps import Taps

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
Proxy = Callable[[nn.Module, Tensor, Tensor], float]


def untrained(module: nn.Module) -> nn.Module:
    """A copy to look at: in evaluation mode, but for batch normalisation, which uses the batch's statistics."""
    other = copy.deepcopy(module).eval().requires_grad_(True)
    for part in other.modules():
        if isinstance(part, _NORMS):
            part.train()
    return other


def parameters(module: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """How many numbers its parameters are: the baseline that a score has to beat."""
    return float(parameters_of(module))


def flops(module: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Floating-point operations of one sample that multiply by weights."""
    from tutelage.models.cost import weight_flops

    return float(weight_flops(module, inputs[:1]))


def gradient_norm(module: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Sum over weights of the length of the loss's gradient (arXiv:2101.08134)."""
    return float(sum(gradient.norm() for _, gradient in _gradients(untrained(module), inputs, labels)))


def snip(module: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Sum of |weight · gradient of the loss| (arXiv:1810.02340)."""
    return float(sum((w * g).abs().sum() for w, g in _gradients(untrained(module), inputs, labels)))


def synflow(module: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Sum of weight · gradient of the outputs' sum, with positive weights and inputs of ones (arXiv:2006.05467).

    As a logarithm, for it grows exponentially with depth.
    """
    other = copy.deepcopy(module).eval().double().requires_grad_(True)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.abs_()
    ones = torch.ones_like(inputs[:1], dtype=torch.float64)
    weights = [parameter for parameter in other.parameters() if parameter.ndim > 1]
    grads = torch.autograd.grad(other(ones).sum(), weights, allow_unused=True)
    flow = sum(float((w.detach() * g).sum()) for w, g in zip(weights, grads, strict=True) if g is not None)
    return math.log(flow) if flow > 0 else -math.inf


def fisher(module: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Sum over channels of half the mean squared (activation · gradient, summed over positions) (arXiv:1906.04675)."""
    other = untrained(module)
    maps = _activations(other, inputs)
    loss = cross_entropy(maps.pop("").float(), labels)
    grads = torch.autograd.grad(loss, list(maps.values()), allow_unused=True)
    total = 0.0
    for values, gradient in zip(maps.values(), grads, strict=True):
        if gradient is not None:
            product = (values * gradient).flatten(2).sum(2) if values.ndim > 2 else values * gradient
            total += float(product.detach().square().mean(0).sum()) / 2
    return total


def nwot(module: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Logarithm of the determinant of how many activations' signs samples share (arXiv:2006.04647)."""
    with torch.no_grad():
        maps = _activations(untrained(module), inputs)
    maps.pop("")
    kernel = torch.zeros(len(inputs), len(inputs), dtype=torch.float64)
    for values in maps.values():
        code = (values > 0).flatten(1).double().cpu()
        kernel += code @ code.T + (1 - code) @ (1 - code).T
    sign, value = torch.linalg.slogdet(kernel)
    return float(value) if sign > 0 else -math.inf


def zen(module: nn.Module, inputs: Tensor, labels: Tensor, *, mix: float = 0.01, seed: int = 0) -> float:
    """How much a little noise moves the last features, with what normalisation scales away put back (arXiv:2102.01063).

    The logarithm of the mean distance between the features of random inputs and of the same with ``mix`` times other
    random inputs added, plus that of every batch normalisation's standard deviation.
    """
    other = untrained(module)
    generator = torch.Generator().manual_seed(seed)
    noise = [torch.randn(inputs.shape, generator=generator).to(inputs) for _ in range(2)]
    scales: list[float] = []

    def entering(part: nn.Module, args: Any) -> None:
        axes = [axis for axis in range(args[0].ndim) if axis != 1]
        scales.append(0.5 * math.log(float(args[0].var(axes, correction=0).mean()) + 1e-12))

    taps = Taps(other, ["features"], example=inputs[:1])
    try:
        with torch.no_grad():
            hooks = [p.register_forward_pre_hook(entering) for p in other.modules() if isinstance(p, _NORMS)]
            other(noise[0])
            first = taps.collect()["features"]
            for hook in hooks:
                hook.remove()
            other(noise[0] + mix * noise[1])
            apart = (first - taps.collect()["features"]).flatten(1).abs().sum(1).mean()
    finally:
        taps.remove()
    return math.log(float(apart) + 1e-12) + sum(scales)


PROXIES: Mapping[str, Proxy] = {
    "parameters": parameters,
    "flops": flops,
    "gradient_norm": gradient_norm,
    "snip": snip,
    "synflow": synflow,
    "fisher": fisher,
    "nwot": nwot,
    "zen": zen,
}
"""The scores that a new one is compared with, by name."""


def _gradients(module: nn.Module, inputs: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    weights = [parameter for parameter in module.parameters() if parameter.ndim > 1]
    grads = torch.autograd.grad(cross_entropy(module(inputs).float(), labels), weights, allow_unused=True)
    return [(w.detach(), g) for w, g in zip(weights, grads, strict=True) if g is not None]


def _activations(module: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """What non-linearities see, by path, and under the empty name the logits.

    A model whose activations are functions shows the normalised values that enter them, which have the same signs.
    """
    kinds = (nn.ReLU, nn.GELU, nn.SiLU)
    if not any(isinstance(part, kinds) for part in module.modules()):
        kinds = (*_NORMS, nn.LayerNorm)  # type: ignore[assignment]
    names = [path for path, part in module.named_modules() if isinstance(part, kinds)]
    taps = Taps(module, names)
    try:
        logits: Tensor = module(inputs)
        return {**taps.collect(), "": logits}
    finally:
        taps.remove()
