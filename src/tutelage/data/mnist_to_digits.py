"""MNIST to UCI digits: the same ten classes by other hands, scanners and preparation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Lt
from torch.nn import functional

from tutelage.data.digits import Digits
from tutelage.data.domains import Domains
from tutelage.data.mnist import Mnist
from tutelage.data.pool import Pool
from tutelage.data.splits import Splits
from tutelage.recipe.registry import component


@component("data", "mnist-to-digits")
@dataclass(frozen=True, kw_only=True)
class MnistToDigits:
    """Training on 10,000 MNIST digits reduced to 8x8, testing on all 1,797 UCI digits, ``[1, 8, 8]`` in [0, 1].

    An MNIST image is framed to 32x32 and reduced to the means of 4x4 blocks, as the UCI set was made from bitmaps of
    32x32. Part of the shift between the two is in this preparation, which does not repeat UCI's exactly.

    Args:
        path: The npm package of MNIST, as for ``mnist``.
        validation_fraction: Fraction of each class of MNIST kept for validation; 0 for none.
        split_seed: Seed of that division; ``null`` for the run's.
        normalize: ``data`` subtracts the training split's mean and divides by its standard deviation.
    """

    path: str
    validation_fraction: Annotated[float, Ge(0), Lt(1)] = 0.1
    split_seed: Annotated[int, Ge(0)] | None = 0
    normalize: Literal["none", "data"] = "none"

    def load(self, seed: int) -> Splits:
        """Read both sets.

        Args:
            seed: The run's seed, used only when ``split_seed`` is ``None``.

        Raises:
            InputError: MNIST's package is not there, or a file in it is not what it should be.
        """
        images, labels = Mnist(path=self.path).read()
        digits, truth = Digits().read()
        small = functional.avg_pool2d(functional.pad(images, (2, 2, 2, 2)), 4)
        which = torch.cat([torch.zeros_like(labels), torch.ones_like(truth)])
        pool = Pool(validation_fraction=self.validation_fraction, split_seed=self.split_seed, normalize=self.normalize)
        return pool.divide(
            torch.cat([small, digits]),
            torch.cat([labels, truth]),
            names=[str(digit) for digit in range(10)],
            seed=seed,
            about={"data": "mnist-to-digits"},
            domains=Domains(("mnist", "digits"), which, held_out=(1,)),
        )
