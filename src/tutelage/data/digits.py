"""UCI handwritten digits: the smallest real images, bundled with scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tutelage.data.batch import DataInfo
from tutelage.data.dividing import stratified
from tutelage.data.outline import Outline
from tutelage.data.pool import Pool
from tutelage.data.splits import Splits
from tutelage.recipe.registry import component

# Images of each digit in the set.
_COUNTS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)


@component("data", "digits")
@dataclass(frozen=True, kw_only=True)
class Digits(Pool):
    """1,797 handwritten digits of 8x8 pixels in 10 classes (UCI, Alpaydin and Kaynak 1998), ``[1, 8, 8]``.

    Pixels are scaled to [0, 1]. They are not standardised unless asked: the background stays 0, so that a shift or a
    crop moves in what the image really has around it.
    """

    def outline(self) -> Outline:
        """Sizes and shapes, without reading anything."""
        labels = torch.arange(10).repeat_interleave(torch.tensor(_COUNTS))
        parts = stratified(labels, validation=self.validation_fraction, test=self.test_fraction, seed=0)
        names = tuple(str(digit) for digit in range(10))
        return Outline(DataInfo((1, 8, 8), 10, names, ""), len(parts.train), len(parts.validation), len(parts.test))

    def load(self, seed: int) -> Splits:
        """Read and divide the digits.

        Args:
            seed: The run's seed, used only when ``split_seed`` is ``None``.
        """
        images, labels = self.read()
        return self.divide(
            images, labels, names=[str(digit) for digit in range(10)], seed=seed, about={"data": "digits"}
        )

    def read(self) -> tuple[torch.Tensor, torch.Tensor]:
        """``[1797, 1, 8, 8]`` float32 in [0, 1] and ``[1797]`` int64 labels."""
        from sklearn.datasets import load_digits

        bunch = load_digits()
        return torch.from_numpy(bunch.images).float().div_(16.0).unsqueeze(1), torch.from_numpy(bunch.target).long()
