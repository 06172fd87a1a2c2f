"""Images whose pixels are labelled with concepts: drawn here, or from a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tutelage.data.pictures import Pictures, UnreadableError, readable
from tutelage.data.shapes import draw
from tutelage.recipe.errors import InputError

NAMES = "concepts.json"


@dataclass(frozen=True)
class Concepts:
    """Images whose pixels are labelled with concepts.

    Args:
        images: ``[count, *input_shape]``.
        masks: By category, ``[count, height, width]`` int64: 0 for no concept, i + 1 for the i-th of ``names``. Masks
            of another size than the images are what maps are resized to.
        names: By category, the concepts' names.

    Raises:
        ValueError: Shapes or numbers do not fit.
    """

    images: Tensor
    masks: Mapping[str, Tensor]
    names: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        if not self.masks or self.masks.keys() != self.names.keys():
            raise ValueError(f"concepts need names for their categories {list(self.masks)}, got {list(self.names)}")
        sizes = {mask.shape for mask in self.masks.values()}
        if len(sizes) > 1 or any(len(size) != 3 or size[0] != len(self.images) for size in sizes):
            raise ValueError(
                f"masks must all be [{len(self.images)}, height, width], got {[list(size) for size in sizes]}"
            )
        for category, mask in self.masks.items():
            if int(mask.max()) > len(self.names[category]) or int(mask.min()) < 0:
                raise ValueError(f"masks of '{category}' number concepts beyond its {len(self.names[category])} names")


def drawn_concepts(input_shape: Sequence[int], count: int, *, seed: int = 1) -> tuple[Concepts, Tensor]:
    """The figures of `tutelage.data.shapes`, of a data set's shape, and where they are.

    Args:
        input_shape: ``(channels, height, width)``; an image that is not square is filled up with its own border.
        count: Images.
        seed: Another one than the data's own gives images that nobody was trained on.

    Returns:
        The concepts, and ``[count, height, width]`` heat: 0.9 in the figure, 0.4 in the box around it.

    Raises:
        InputError: The samples are no images, or too small for a figure.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < 12:
        raise InputError(
            f"figures need images [channels, height, width] of at least 12 pixels, not {list(input_shape)}; name a "
            "folder of concepts"
        )
    channels, height, width = input_shape
    size = min(height, width)
    drawn = draw(count, size, seed=seed)
    down, right = height - size, width - size
    images = torch.nn.functional.pad(drawn.images, (0, right, 0, down), mode="replicate")
    masks = {c: torch.nn.functional.pad(mask, (0, right, 0, down)) for c, (mask, _) in drawn.masks().items()}
    names = {category: own for category, (_, own) in drawn.masks().items()}
    heat = torch.nn.functional.pad(drawn.heat(), (0, right, 0, down))
    return Concepts(images.repeat(1, channels, 1, 1), masks, names), heat


def read_concepts(folder: str | Path, input_shape: Sequence[int], limit: int | None = None) -> Concepts:
    """Concepts from a folder: ``concepts.json``, ``images/`` and a folder of masks for each category in ``masks/``.

    ``concepts.json`` maps each category to the list of its concepts' names. A mask is a grey image with the name of its
    image, as large as the others: 0 where there is none of them, i + 1 for the i-th.

    Args:
        folder: The folder.
        input_shape: ``(channels, height, width)`` of what the model takes; images are resized to it, masks are not.
        limit: At most so many images, the first by name.

    Raises:
        InputError: Something is missing or cannot be read.
    """
    root = Path(folder).expanduser()
    try:
        names: Mapping[str, list[str]] = json.loads((root / NAMES).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"concepts: {root / NAMES} cannot be read: {error}") from error
    pictures = sorted(p for p in (root / "images").glob("*") if readable(p))[:limit]
    if not pictures or not isinstance(names, dict) or not names:
        raise InputError(f"concepts: {root} needs images in 'images' and categories in {NAMES}")
    channels, height, width = input_shape
    decode = Pictures(channels, (height, width)).one
    plain = Pictures(1, None).one
    masks: dict[str, Tensor] = {}
    try:
        images = torch.from_numpy(np.stack([decode(str(path)) for path in pictures])).float() / 255
        for category in names:
            own = [next((root / "masks" / category).glob(f"{path.stem}.*"), None) for path in pictures]
            missing = [path.name for path, mask in zip(pictures, own, strict=True) if mask is None]
            if missing:
                raise InputError(f"concepts: '{missing[0]}' has no mask in {root / 'masks' / category}")
            each = np.stack([plain(str(mask))[0] for mask in own])
            masks[category] = torch.from_numpy(each.astype(np.int64))
        return Concepts(images, masks, {category: tuple(own) for category, own in names.items()})
    except (UnreadableError, ValueError) as error:
        raise InputError(f"concepts: {root}: {error}") from error
