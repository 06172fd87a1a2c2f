"""WAV files to waveforms of one rate and length."""

from __future__ import annotations

import io
import math
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tutelage.recipe.errors import InputError


class UnreadableError(ValueError):
    """A recording cannot be decoded."""


@dataclass(frozen=True)
class Sound:
    """One recording.

    Args:
        samples: ``[samples]`` float32 in [-1, 1); several channels are averaged.
        rate: Samples a second.
    """

    samples: Tensor
    rate: int


def decode(source: bytes | str | Path) -> Sound:
    """A recording of 16-bit PCM, given as a WAV file's bytes or its path.

    Raises:
        UnreadableError: It is no WAV file, damaged, empty, or of another sample format.
    """
    try:
        with wave.open(io.BytesIO(source) if isinstance(source, bytes) else str(source), "rb") as file:
            channels, width, rate, count = file.getparams()[:4]
            if width != 2:
                raise UnreadableError(f"it has {8 * width}-bit samples, expected 16-bit PCM")
            data = file.readframes(count)
    except (wave.Error, EOFError, OSError) as error:
        raise UnreadableError(f"not a WAV file of PCM ({type(error).__name__}: {str(error)[:80]})") from error
    if not data or rate < 1 or len(data) % (2 * channels):
        raise UnreadableError("it is empty or cut off")
    values = np.frombuffer(data, dtype="<i2").reshape(-1, channels).astype(np.float32).mean(1) / 32768.0
    return Sound(torch.from_numpy(values), rate)


def resampled(sound: Sound, rate: int) -> Sound:
    """The recording at another rate, by a polyphase filter."""
    if sound.rate == rate:
        return sound
    from scipy.signal import resample_poly

    common = math.gcd(rate, sound.rate)
    values = resample_poly(sound.samples.double().numpy(), rate // common, sound.rate // common)
    return Sound(torch.from_numpy(values).float(), rate)


def fitted(samples: Tensor, length: int, place: str) -> Tensor:
    """``[length]``: cut, or filled up with silence.

    Args:
        samples: ``[samples]``.
        length: Samples wanted.
        place: What is kept, or where the recording lies in the silence: its ``start`` or its ``centre``.
    """
    spare = length - len(samples)
    before = spare // 2 if place == "centre" else 0
    if spare < 0:
        return samples[-before : -before + length]
    return torch.nn.functional.pad(samples, (before, spare - before))


def one_rate(sounds: dict[str, Sound], rate: int | None, resample: bool) -> tuple[dict[str, Sound], int]:
    """Recordings at one rate, and that rate: the first one's unless given.

    Raises:
        InputError: Rates differ and nothing says to resample.
    """
    wanted = rate if rate is not None else next(iter(sounds.values())).rate
    other = next(((where, sound.rate) for where, sound in sounds.items() if sound.rate != wanted), None)
    if other is not None and not resample:
        raise InputError(
            f"{other[0]} has {other[1]} samples a second, expected {wanted}; set data.resample=true to convert, or "
            "data.rate to the rate of all recordings"
        )
    return {where: resampled(sound, wanted) for where, sound in sounds.items()}, wanted
