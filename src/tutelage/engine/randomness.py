"""Randomness without state: every step's random numbers are a function of where the step is."""

from __future__ import annotations

import functools
import hashlib
import random

import numpy as np
import torch


def derive(seed: int, *place: str | int) -> int:
    """A 63-bit seed for a place, e.g. ``derive(0, "transfer", 12)``: unrelated places get unrelated seeds."""
    text = "\x1f".join(str(part) for part in (seed, *place))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def reseed(seed: int, *place: str | int) -> None:
    """Set Python's, NumPy's and torch's global generators for a place.

    Called before each step, so that a resumed run draws what the uninterrupted one drew, without storing any state.
    """
    value = derive(seed, *place)
    random.seed(value)
    np.random.seed(value & 0xFFFFFFFF)
    # torch.manual_seed notes the call stack for every device that may yet wake up: half a millisecond, each step.
    if _only_cpu():
        torch.default_generator.manual_seed(value)
    else:
        torch.manual_seed(value)


@functools.cache
def _only_cpu() -> bool:
    return not (torch.cuda.is_available() or torch.backends.mps.is_available() or torch.xpu.is_available())
