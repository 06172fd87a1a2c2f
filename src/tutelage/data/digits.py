"""UCI handwritten digits: the smallest real images, bundled with scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tutelage.data.pool import Pool
from tutelage.data.splits import Splits
from tutelage.recipe.registry import component


@component("data", "digits")
@dataclass(frozen=True, kw_only=True)
class Digits(Pool):
    """1,797 handwritten digits of 8x8 pixels in 10 classes (UCI, Alpaydin and Kaynak 1998), ``[1, 8, 8]``.

    Pixels are scaled to [0, 1]. They are not standardised unless asked: the background stays 0, so that a shift or a
    crop moves in what the image really has around it.
    """

    def load(self, seed: int) -> Splits:
        """Read and divide the digits.

        Args:
            seed: The run's seed, used only when ``split_seed`` is ``None``.
        """
        from sklearn.datasets import load_digits

        bunch = load_digits()
        return self.divide(
            torch.from_numpy(bunch.images).float().div_(16.0).unsqueeze(1),
            torch.from_numpy(bunch.target).long(),
            names=[str(digit) for digit in range(10)],
            seed=seed,
            about={"data": "digits"},
        )
