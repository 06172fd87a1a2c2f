"""An augmentation: some images are shown by their edges."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le

from tutelage.data.batch import Batch
from tutelage.data.seeds import uniform
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component
from tutelage_sobel.filters import edges


@component("augment", "sobel")
class Sobel:
    """Replace some images by the strength of their edges.

    Args:
        share: Share of the images that are replaced, in [0, 1].
    """

    def __init__(self, *, share: Annotated[float, Ge(0), Le(1)] = 0.25) -> None:
        self.share = share

    def __call__(self, batch: Batch) -> Batch:
        """Filter ``[batch, channels, height, width]`` inputs; the decision for each is a function of its view's seed.

        Raises:
            InputError: The inputs are not images.
        """
        if batch.inputs.ndim != 4:
            raise InputError(f"augmentation 'sobel' needs images, but inputs are {tuple(batch.inputs.shape)}")
        chosen = uniform(batch.seeds, 0) < self.share
        return batch.with_(inputs=batch.inputs.where(~chosen[:, None, None, None], edges(batch.inputs)))
