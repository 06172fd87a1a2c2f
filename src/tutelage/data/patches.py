"""Patches of one photograph: images of nothing in particular, for distillation without the teacher's data."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from tutelage.data.batch import Batch, DataInfo
from tutelage.data.seeds import mix, uniform
from tutelage.data.splits import Indices


class Patches:
    """Turned, scaled and mirrored cuts of a photograph that scikit-learn brings (arXiv:2112.00725).

    A cut is a function of its identity alone. Like `Nothing`, they have no labels.

    Args:
        info: Shape of a sample.
        count: How many.
        pixel_range: Darkest and brightest pixel.
        name: Which of the photographs.
    """

    def __init__(
        self, info: DataInfo, count: int, *, pixel_range: tuple[float, float] = (0.0, 1.0), name: str = "china.jpg"
    ) -> None:
        from sklearn.datasets import load_sample_image

        photograph = torch.from_numpy(load_sample_image(name).copy()).permute(2, 0, 1).float().div_(255)
        channels, self.height, self.width = info.input_shape
        # Small details would only become noise when a large cut is made small.
        small = functional.interpolate(photograph[None], scale_factor=0.25, mode="area")
        self.photograph = small if channels == 3 else small.mean(1, keepdim=True).expand(-1, channels, -1, -1)
        self.pixel_range, self.ids = pixel_range, torch.arange(count)

    def __len__(self) -> int:
        return len(self.ids)

    def fetch(self, indices: Indices) -> Batch:
        """The cuts at these positions, with the label -1 that no class has."""
        ids = torch.as_tensor(indices, dtype=torch.int64)
        count = len(ids)
        inputs = torch.empty(0)
        if count:
            grid = functional.affine_grid(self._cuts(ids), [count, 1, self.height, self.width], align_corners=False)
            source = self.photograph.expand(count, -1, -1, -1)
            inputs = functional.grid_sample(source, grid, padding_mode="reflection", align_corners=False)
        low, high = self.pixel_range
        labels = torch.full((count,), -1, dtype=torch.int64)
        return Batch(low + (high - low) * inputs, labels, ids, torch.zeros(count, dtype=torch.int64))

    def _cuts(self, ids: Tensor) -> Tensor:
        """``[batch, 2, 3]``: where each cut lies, in the photograph's coordinates of -1 to 1."""
        draws = uniform(mix(0x50, 0, ids), 0, (5,))
        scale = 0.1 + 0.4 * draws[:, 0]
        turn = 2 * torch.pi * draws[:, 1]
        mirrored = torch.where(draws[:, 2] < 0.5, -1.0, 1.0)
        away = (2 * draws[:, 3:] - 1) * (1 - scale[:, None])
        cosine, sine = scale * turn.cos(), scale * turn.sin()
        first = torch.stack([mirrored * cosine, -sine, away[:, 0]], 1)
        return torch.stack([first, torch.stack([mirrored * sine, cosine, away[:, 1]], 1)], 1)
