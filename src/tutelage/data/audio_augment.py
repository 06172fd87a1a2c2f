"""Augmentations of sound: as a waveform or as a spectrogram, decided for every sample from that sample's seed."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from tutelage.data.batch import Batch
from tutelage.data.seeds import uniform
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component


@component("augment", "roll")
class Roll:
    """Move each recording in time; what leaves at one end comes in at the other (arXiv:2308.11957's code).

    Args:
        fraction: Largest movement, as a fraction of the length, in both directions.
    """

    def __init__(self, *, fraction: Annotated[float, Gt(0), Le(0.5)] = 0.5) -> None:
        self.fraction = fraction

    def __call__(self, batch: Batch) -> Batch:
        """Roll ``[batch, ..., time]`` inputs: waveforms or spectrograms."""
        length = batch.inputs.shape[-1]
        moved = ((2 * uniform(batch.seeds, 0) - 1) * self.fraction * length).to(torch.int64)
        index = (torch.arange(length, device=moved.device) - moved[:, None]) % length
        index = index.view(len(batch), *(1 for _ in batch.inputs.shape[1:-1]), length)
        return batch.with_(inputs=batch.inputs.gather(-1, index.expand_as(batch.inputs)))


@component("augment", "spectrogram-mask")
class SpectrogramMask:
    """Silence a stretch of time and a band of frequencies in each spectrogram (arXiv:1904.08779, section 2).

    One pair of numbers (u, v) drives both, as in arXiv:2308.11957's code: a mask is ``u * largest`` wide and starts at
    ``v * (size - width)``, both rounded down.

    Args:
        time: Largest width in time, in frames; 0 for none.
        frequency: Largest width in frequency, in bins; 0 for none.
        value: What silence is.
    """

    def __init__(
        self, *, time: Annotated[int, Ge(0)] = 192, frequency: Annotated[int, Ge(0)] = 24, value: float = 0.0
    ) -> None:
        self.time, self.frequency, self.value = time, frequency, value

    def __call__(self, batch: Batch) -> Batch:
        """Mask ``[batch, channels, bins, frames]`` inputs.

        Raises:
            InputError: The inputs are not spectrograms, or smaller than the masks.
        """
        if batch.inputs.ndim != 4:
            shape = ", ".join(map(str, batch.inputs.shape))
            raise InputError(
                f"augmentation 'spectrogram-mask' needs spectrograms [batch, channels, bins, frames], but inputs are "
                f"[{shape}]: give the data `features: log-mel`, or leave it out"
            )
        bins, frames = batch.inputs.shape[2:]
        if self.time > frames or self.frequency > bins:
            raise InputError(
                f"augmentation 'spectrogram-mask': masks of up to {self.time} frames and {self.frequency} bins do not "
                f"fit into spectrograms of {frames} frames and {bins} bins"
            )
        hidden = self._stretch(batch.seeds, frames, self.time)[:, None, :]
        hidden = hidden | self._stretch(batch.seeds, bins, self.frequency)[:, :, None]
        return batch.with_(inputs=batch.inputs.masked_fill(hidden[:, None], self.value))

    def _stretch(self, seeds: Tensor, size: int, largest: int) -> Tensor:
        """``[batch, size]`` bool: which places a mask covers along one axis."""
        width = (uniform(seeds, 0) * largest).to(torch.int64)
        start = (uniform(seeds, 1) * (size - width)).to(torch.int64)
        at = torch.arange(size, device=seeds.device)
        return (at >= start[:, None]) & (at < (start + width)[:, None])
