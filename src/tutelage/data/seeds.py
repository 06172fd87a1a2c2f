"""Random numbers as a function of who asks: a counter hash in place of generator state.

Every draw is ``hash(seed of the view, salt, position)``, so a sample is augmented identically whatever the batch it
sits in, the worker that fetched it, the rank that trains on it or the step a run was resumed from. Integer arithmetic
only (64-bit, wrapping), so that CPU and GPU agree to the bit; ``normal`` alone goes through floating-point logarithms
and may differ in the last place between devices.

The hash is the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, figure 17; constants of Stafford's variant
13).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_WORD = (1 << 64) - 1


def _signed(value: int) -> int:
    """The int64 with the same 64 bits."""
    value &= _WORD
    return value - (1 << 64) if value >> 63 else value


def _hash_int(value: int) -> int:
    value &= _WORD
    value = ((value ^ (value >> 30)) * _FIRST) & _WORD
    value = ((value ^ (value >> 27)) * _SECOND) & _WORD
    return value ^ (value >> 31)


def _shift_right(value: Tensor, bits: int) -> Tensor:
    """Logical shift: torch's ``>>`` on int64 copies the sign bit, which the mask removes."""
    return (value >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _hash(value: Tensor) -> Tensor:
    value = _shift_right(value, 30).bitwise_xor_(value).mul_(_signed(_FIRST))
    value = _shift_right(value, 27).bitwise_xor_(value).mul_(_signed(_SECOND))
    return _shift_right(value, 31).bitwise_xor_(value)


def mix(seed: int, epoch: int, ids: Tensor) -> Tensor:
    """Seeds of one epoch's views of some samples.

    Args:
        seed: The run's seed, taken modulo 2⁶⁴.
        epoch: Number of the pass over the data, likewise.
        ids: ``[batch]`` int64 identities of the samples.

    Returns:
        ``[batch]`` int64: distinct for distinct ids of the same seed and epoch.
    """
    key = _hash_int(_hash_int(seed + _GOLDEN) + (epoch + 1) * _GOLDEN)
    return _hash(_hash(ids * _signed(_GOLDEN) + _signed(key)) + _signed(_GOLDEN))


def _bits(seeds: Tensor, salt: int, shape: Sequence[int]) -> Tensor:
    """``[batch, *shape]`` int64 of 64 random bits."""
    key = _hash(seeds + _signed((salt + 1) * _GOLDEN))
    if not shape:
        return key
    counter = torch.arange(1, math.prod(shape) + 1, device=seeds.device, dtype=torch.int64) * _signed(_GOLDEN)
    return _hash(key[:, None] + counter).view(-1, *shape)


def uniform(seeds: Tensor, salt: int, shape: Sequence[int] = ()) -> Tensor:
    """Uniform numbers in [0, 1), multiples of 2⁻²⁴.

    Args:
        seeds: ``[batch]`` int64, e.g. ``batch.seeds``.
        salt: Names the decision; different salts give independent numbers.
        shape: Numbers wanted for each sample.

    Returns:
        ``[batch, *shape]`` float32 on the seeds' device, equal on every device.
    """
    return _shift_right(_bits(seeds, salt, shape), 40).to(torch.float32) * 2.0**-24


def normal(seeds: Tensor, salt: int, shape: Sequence[int] = ()) -> Tensor:
    """Standard normal numbers (Box-Muller).

    Args:
        seeds: ``[batch]`` int64.
        salt: Names the decision.
        shape: Numbers wanted for each sample.

    Returns:
        ``[batch, *shape]`` float32, of magnitude below 5.8.
    """
    bits = _bits(seeds, salt, shape)
    # Two disjoint 24-bit parts of one word; the first is moved into (0, 1] so that its logarithm is finite.
    radius = (_shift_right(bits, 40) + 1).to(torch.float32) * 2.0**-24
    angle = (_shift_right(bits, 8) & 0xFFFFFF).to(torch.float32) * (2.0 * math.pi * 2.0**-24)
    return torch.sqrt(-2.0 * torch.log(radius)) * torch.cos(angle)


def integers(seeds: Tensor, low: int, high: int, salt: int, shape: Sequence[int] = ()) -> Tensor:
    """Uniform integers in ``[low, high)``.

    Args:
        seeds: ``[batch]`` int64.
        low: Smallest value.
        high: One more than the largest value; ``high - low`` in [1, 2³¹].
        salt: Names the decision.
        shape: Numbers wanted for each sample.

    Returns:
        ``[batch, *shape]`` int64; the bias is below ``(high - low) / 2³²``.

    Raises:
        ValueError: The range is empty or wider than 2³¹.
    """
    if not 1 <= high - low <= 1 << 31:
        raise ValueError(f"integers needs 1 <= high - low <= 2**31, got low={low}, high={high}")
    return ((_shift_right(_bits(seeds, salt, shape), 32) * (high - low)) >> 32) + low


def beta(seeds: Tensor, salt: int, alpha: float) -> Tensor:
    """Numbers in [0, 1] from the symmetric distribution Beta(alpha, alpha), as a ratio of two gamma numbers.

    Args:
        seeds: ``[batch]`` int64.
        salt: Names the decision.
        alpha: Above 0; 1 is uniform, less prefers the ends, more the middle.

    Returns:
        ``[batch]`` float32; as of `normal`, a device may give another last place.

    Raises:
        ValueError: ``alpha`` is not above 0.
    """
    if not alpha > 0:
        raise ValueError(f"beta needs alpha above 0, got {alpha}")
    own = derive(seeds, salt)
    return torch.sigmoid(_log_gamma(own, 0, alpha) - _log_gamma(own, 3, alpha)).float()


def _log_gamma(seeds: Tensor, salt: int, alpha: float) -> Tensor:
    """Logarithms of gamma numbers (Marsaglia and Tsang, ACM TOMS 2000); salts up to ``salt + 2`` are used.

    In logarithms, because with a small alpha the numbers themselves leave the range of a float.
    """
    # For alpha < 1, gamma(alpha) is gamma(alpha + 1) * U^(1 / alpha).
    shape = alpha + 1.0 if alpha < 1 else alpha
    d = shape - 1.0 / 3.0
    # A try is accepted with probability above 0.95, so that all of sixteen fail once in 10^20.
    x = normal(seeds, salt, (16,)).double()
    u = uniform(seeds, salt + 1, (16,)).double() + 2.0**-25
    v = (1.0 + x / math.sqrt(9.0 * d)).clamp(min=0.0).pow(3)
    accepted = u.log() < 0.5 * x.square() + d * (1.0 - v + v.log())
    first = accepted.to(torch.int64).argmax(-1, keepdim=True)
    value = (d * v.gather(-1, first).squeeze(-1)).log()
    if alpha < 1:
        value = value + (uniform(seeds, salt + 2).double() + 2.0**-25).log() / alpha
    return value


def derive(seeds: Tensor, place: int) -> Tensor:
    """``[batch]`` int64 seeds for one of several places that use the same salts, e.g. one augmentation of a chain."""
    # The other constant keeps these apart from the words that ``uniform(seeds, salt)`` hashes.
    return _hash((seeds ^ _signed(_SECOND)) + _signed((place + 1) * _GOLDEN))


def shuffle(count: int, seed: int, epoch: int = 0) -> Tensor:
    """A permutation of ``range(count)`` that is a function of (seed, epoch) alone, on every machine and version.

    Returns:
        ``[count]`` int64.
    """
    # A place of its own: sorting by the views' seeds themselves would tie a sample's augmentation to its rank in the
    # epoch.
    return derive(mix(seed, epoch, torch.arange(count)), 0x5348).argsort(stable=True)
