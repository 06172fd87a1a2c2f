"""Fake quantisation with straight-through gradients, and what the weights really take when packed."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

Bits = Literal[2, 4, 8]


def straight_through(values: Tensor, quantized: Tensor, clip: float) -> Tensor:
    """The quantised values, with the gradient of the real ones: 1 inside ±clip, 0 where ``|value| >= clip``."""
    passing = torch.where(values.abs() < clip, values, values.detach())
    return passing + (quantized - passing).detach()


def round_activations(values: Tensor, *, bits: int = 8, clip: float = 2.5) -> Tensor:
    """Symmetric quantisation of a whole tensor by its largest magnitude, after a clamp to ±clip.

    Args:
        values: Any shape.
        bits: At least 2.
        clip: Above 0.

    Source: arXiv:2211.11014; 127 / max|x| steps for 8 bits.
    """
    clamped = values.detach().clamp(-clip, clip)
    scale = (2 ** (bits - 1) - 1) / clamped.abs().amax().clamp(min=torch.finfo(values.dtype).tiny)
    return straight_through(values, (clamped * scale).round() / scale, clip)


class WeightQuantizer(nn.Module):
    """A parametrisation: the latent weight quantised anew at each use.

    2 bits: ternary (TWN, arXiv:1605.04711): 0 below 0.7 of the mean magnitude, ±α above, α the mean of what is above. 4
    bits: a uniform grid up to the mean of the magnitudes above the mean one. 8 bits: a uniform grid up to the largest.

    Args:
        bits: 2, 4 or 8.
        clip: Latent weights are clamped to ±clip first.
        groups: Equal parts of the rows that have a scale each; ``None`` for a scale a row.
    """

    def __init__(self, bits: Bits = 2, *, clip: float = 2.5, groups: int | None = 1) -> None:
        super().__init__()
        self.bits, self.clip, self.groups = bits, clip, groups

    def forward(self, weight: Tensor) -> Tensor:
        """``[rows, ...]`` to the same shape."""
        codes, scales = self.codes(weight.detach())
        return straight_through(weight, (codes * scales).reshape(weight.shape), self.clip)

    def codes(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """``[groups, numbers]`` whole numbers and ``[groups, 1]`` scales, whose product is the quantised weight."""
        rows = weight.clamp(-self.clip, self.clip).reshape(self.groups or len(weight), -1)
        size = rows.abs()
        if self.bits == 8:
            scale = size.amax(1, keepdim=True) / 127
        else:
            above = size > (0.7 if self.bits == 2 else 1.0) * size.mean(1, keepdim=True)
            scale = (size * above).sum(1, keepdim=True) / above.sum(1, keepdim=True).clamp(min=1)
            if self.bits == 2:
                return rows.sign() * above, scale
            scale = scale / 7
        top = 2 ** (self.bits - 1) - 1
        return (rows / scale.clamp(min=torch.finfo(rows.dtype).tiny)).round().clamp(-top, top), scale


class Rounding:
    """A hook that quantises what enters a module, or what leaves it; copies and pickles with the model.

    Args:
        bits: Of an activation.
        clip: Activations are clamped to ±clip first.
        output: Whether what leaves is meant.
    """

    def __init__(self, bits: int, clip: float, *, output: bool = False) -> None:
        self.bits, self.clip, self.output = bits, clip, output

    def place(self, module: nn.Module) -> None:
        """Put it into a module."""
        if self.output:
            module.register_forward_hook(self)
        else:
            module.register_forward_pre_hook(self)

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any = None) -> Any:
        """The quantised output, or arguments."""
        if self.output:
            return round_activations(output, bits=self.bits, clip=self.clip)
        return round_activations(args[0], bits=self.bits, clip=self.clip), *args[1:]


def pack(codes: Tensor, bits: Bits) -> Tensor:
    """Whole numbers of few bits, several to a byte.

    Args:
        codes: Numbers in ``±(2^(bits − 1) − 1)``, any shape.
        bits: 2, 4 or 8.

    Returns:
        ``[bytes]`` uint8; the last byte is filled up with zeros.
    """
    each = 8 // bits
    unsigned = (codes.reshape(-1).to(torch.int64) % (1 << bits)).to(torch.uint8)
    padded = torch.nn.functional.pad(unsigned, (0, -len(unsigned) % each)).view(-1, each)
    packed = torch.zeros(len(padded), dtype=torch.uint8, device=codes.device)
    for place in range(each):
        packed |= padded[:, place] << (bits * place)
    return packed


def unpack(packed: Tensor, bits: Bits, count: int) -> Tensor:
    """``[count]`` int64: what `pack` was given."""
    each, half = 8 // bits, 1 << (bits - 1)
    parts = torch.stack([(packed >> (bits * place)) & ((1 << bits) - 1) for place in range(each)], 1)
    codes = parts.reshape(-1)[:count].to(torch.int64)
    return torch.where(codes >= half, codes - 2 * half, codes)


def packed_bytes(module: nn.Module) -> int:
    """Bytes of a model's weights, those with a `WeightQuantizer` packed with their scales, the rest as they are."""
    total, done = 0, set()
    for part in module.modules():
        if not parametrize.is_parametrized(part):
            continue
        for quantizer, latent in quantizers(part):
            codes, scales = quantizer.codes(latent.detach())
            total += pack(codes, quantizer.bits).numel() + scales.numel() * scales.element_size()
            done.add(id(latent))
    rest = [t for t in (*module.parameters(), *module.buffers()) if id(t) not in done]
    return total + sum(tensor.numel() * tensor.element_size() for tensor in rest)


def quantizers(module: nn.Module) -> list[tuple[WeightQuantizer, Tensor]]:
    """Each `WeightQuantizer` of a module's own parameters, with the latent weight."""
    found = []
    if parametrize.is_parametrized(module):
        for parts in module.parametrizations.values():  # type: ignore[operator]
            found += [(part, parts.original) for part in parts if isinstance(part, WeightQuantizer)]
    return found
