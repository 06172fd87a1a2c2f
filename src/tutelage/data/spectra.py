"""From waveforms to pictures of them: log-mel spectrograms."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

# Energy of a full-scale signal that is drawn as black: 100 dB below.
_FLOOR = 1e-10


def log_mel(waveforms: Tensor, *, rate: int, bins: int, frames: int) -> Tensor:
    """Log-mel spectrograms, 0 for silence and about 1 for a full-scale tone, 0.1 for every 10 dB.

    The hop follows from the number of frames, and a window is two hops long.

    Args:
        waveforms: ``[..., samples]`` in [-1, 1].
        rate: Samples a second.
        bins: Mel bands, evenly spaced on the mel scale from 0 to half the rate.
        frames: Steps in time.

    Returns:
        ``[..., bins, frames]`` float32, low bands first.

    Raises:
        ValueError: There are more frames than samples, or bands so narrow that no frequency falls into one.
    """
    samples = waveforms.shape[-1]
    if not 1 <= frames <= samples:
        raise ValueError(f"{samples} samples cannot be cut into {frames} frames")
    hop = samples // frames
    length = 2 * hop
    size = max(256, 1 << math.ceil(math.log2(length)))
    flat = waveforms.reshape(-1, samples).float()
    # Half a window of silence around, so that a frame is centred on its hop.
    padded = functional.pad(flat, (size // 2, size // 2))
    window = torch.hann_window(length, device=flat.device)
    spectrum = torch.stft(padded, size, hop, length, window, center=False, return_complex=True)[..., :frames]
    # By the window's sum, so that a tone has the same height whatever the number of frames.
    power = spectrum.abs().square() * (2.0 / window.sum()).square()
    mel = mel_filters(rate, bins, size).to(flat.device) @ power
    return (1.0 + torch.log10(mel.clamp(min=_FLOOR)) / 10.0).reshape(*waveforms.shape[:-1], bins, frames)


@lru_cache(maxsize=16)
def mel_filters(rate: int, bins: int, size: int) -> Tensor:
    """``[bins, size // 2 + 1]``: triangles that overlap by half, of height 1, on the mel scale 2595 log10(1 + f / 700).

    Raises:
        ValueError: A band is so narrow that no frequency falls into it.
    """
    frequencies = torch.linspace(0, rate / 2, size // 2 + 1, dtype=torch.float64)
    top = 2595.0 * math.log10(1.0 + rate / 2 / 700.0)
    edges = 700.0 * (10.0 ** (torch.linspace(0, top, bins + 2, dtype=torch.float64) / 2595.0) - 1.0)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    filters = torch.minimum(rising, falling).clamp(min=0.0)
    empty = int((filters.sum(1) == 0).sum())
    if empty:
        raise ValueError(f"{bins} mel bands at {rate} Hz are too narrow for {size} points: {empty} of them are empty")
    return filters.float()
