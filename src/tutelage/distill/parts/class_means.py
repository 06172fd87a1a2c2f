"""A teacher's mean embedding of each class: from a survey, from what passes by, or from a file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from tutelage.losses import sums_by_class
from tutelage.models.weight_files import read_tensors
from tutelage.recipe.errors import InputError


class ClassMeans(nn.Module):
    """Means of rows by class, as buffers: what is saved and resumed are sums and counts.

    Args:
        classes: How many there are.
        width: Of a row.
        device: Where they are kept.
    """

    sums: Tensor
    counts: Tensor

    def __init__(self, classes: int, width: int, device: torch.device) -> None:
        super().__init__()
        self.register_buffer("sums", torch.zeros(classes, width, device=device))
        self.register_buffer("counts", torch.zeros(classes, device=device))
        self._waiting: list[tuple[Tensor, Tensor]] = []

    def forward(self) -> Tensor:
        """``[classes, width]``; zeros for a class that was not seen."""
        means: Tensor = self.sums / self.counts.clamp(min=1.0).unsqueeze(-1)
        return means

    def add(self, rows: Tensor, labels: Tensor) -> None:
        """Take in ``[batch, width]`` rows of these classes at once."""
        sums, counts = sums_by_class(rows, labels, len(self.counts))
        self.sums += sums
        self.counts += counts

    def note(self, rows: Tensor, labels: Tensor) -> None:
        """Take in rows at the next `settle`, so that all parts of a step see the same means."""
        self._waiting.append(sums_by_class(rows, labels, len(self.counts)))

    def settle(self) -> None:
        """Take in what was noted, in all processes."""
        if not self._waiting:
            return
        sums, counts = (torch.stack(parts).sum(0) for parts in zip(*self._waiting, strict=True))
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
            torch.distributed.all_reduce(counts)
        self.sums += sums
        self.counts += counts
        self._waiting = []

    def read(self, path: Path) -> None:
        """Take the means from the tensor ``class_means`` of a safetensors file.

        Raises:
            InputError: There is no such file or tensor, or it has another shape.
        """
        _, found = read_tensors(path)
        means = found.get("class_means")
        if means is None or means.shape != self.sums.shape:
            there = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in found.items())
            raise InputError(f"{path} holds {there}; expected class_means {list(self.sums.shape)}")
        self.sums.copy_(means)
        self.counts.fill_(1.0)
