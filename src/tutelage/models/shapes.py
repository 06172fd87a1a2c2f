"""What builders ask of the data before they build."""

from __future__ import annotations

from tutelage.data.batch import DataInfo
from tutelage.recipe.errors import InputError


def image_shape(data: DataInfo, model: str) -> tuple[int, int, int]:
    """``(channels, height, width)`` of one sample.

    Raises:
        InputError: The samples are not images.
    """
    if len(data.input_shape) != 3:
        raise InputError(
            f"the model '{model}' takes images [channels, height, width], but a sample of this data has shape"
            f" {list(data.input_shape)}; the model 'mlp' takes any shape"
        )
    channels, height, width = data.input_shape
    return channels, height, width
