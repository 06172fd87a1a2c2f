"""UCI handwritten digits: the smallest real images, bundled with scikit-learn."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt

from tutelage.data.images import Normalize, divide
from tutelage.data.splits import Splits
from tutelage.recipe.registry import component


@component("data", "digits")
class Digits:
    """1,797 handwritten digits of 8x8 pixels in 10 classes (UCI, Alpaydin and Kaynak 1998), ``[1, 8, 8]``.

    Pixels are scaled to [0, 1]. They are not standardised unless asked: the background stays 0, so that a shift or a crop
    moves in what the image really has around it.

    Args:
        test_fraction: Fraction of each class kept for testing.
        validation_fraction: Fraction of each class kept for validation; 0 for none.
        split_seed: Seed of the division into parts. It does not follow the run's seed unless ``null``, so that a teacher
            trained with another seed has not seen this run's test samples.
        normalize: ``none`` leaves pixels in [0, 1]; ``data`` standardises by the training split's mean and deviation.
    """

    def __init__(
        self,
        *,
        test_fraction: Annotated[float, Gt(0), Lt(1)] = 0.2,
        validation_fraction: Annotated[float, Ge(0), Lt(1)] = 0.1,
        split_seed: Annotated[int, Ge(0)] | None = 0,
        normalize: Normalize = "none",
    ) -> None:
        self.test_fraction = test_fraction
        self.validation_fraction = validation_fraction
        self.split_seed = split_seed
        self.normalize = normalize

    def load(self, seed: int) -> Splits:
        """Read and divide the digits.

        Args:
            seed: The run's seed, used only when ``split_seed`` is ``None``.
        """
        from sklearn.datasets import load_digits

        bunch = load_digits()
        return divide(
            torch.from_numpy(bunch.images).float().div_(16.0).unsqueeze(1),
            torch.from_numpy(bunch.target).long(),
            class_names=[str(digit) for digit in range(10)],
            validation_fraction=self.validation_fraction,
            test_fraction=self.test_fraction,
            seed=seed if self.split_seed is None else self.split_seed,
            normalize=self.normalize,
            preparation={"data": "digits"},
        )
