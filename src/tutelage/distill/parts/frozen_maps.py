"""What a teacher says of each sample and where it looks, found once on unaugmented samples and moved with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tutelage.data.augment import Crop, Cutout, Flip, Noise, Shift
from tutelage.data.batch import Batch
from tutelage.data.loader import Augmentation, apply
from tutelage.data.splits import Examples
from tutelage.losses import resized
from tutelage.recipe.errors import InputError
from tutelage.recipe.runfolder import atomic_write

_CHUNK = 256
_MOVING = (Shift, Flip, Crop)
# These change what is seen and not where it is.
_STILL = (Noise, Cutout)


class FrozenMaps:
    """Logits and maps by the sample's identity.

    Args:
        ids: ``[count]`` int64, sorted.
        logits: ``[count, classes]``.
        maps: ``[count, channels, height, width]``, at the size that the explanation gave them.
        augment: The data's augmentations: those that move an image move its map.

    Raises:
        InputError: An augmentation is not known to move images or to leave them where they are.
    """

    def __init__(self, ids: Tensor, logits: Tensor, maps: Tensor, augment: Sequence[Augmentation] = ()) -> None:
        self.ids, self.logits, self.maps = ids, logits, maps
        strange = [type(one).__name__ for one in augment if not isinstance(one, _MOVING + _STILL)]
        if strange:
            raise InputError(
                f"method.frozen_maps: cannot tell how the augmentation {strange[0]} moves a map; use shift, crop, "
                "flip, noise or cutout, or maps that are not frozen"
            )
        # Each keeps its place in the chain, on which its random decisions depend.
        self.augment = [one if isinstance(one, _MOVING) else _unchanged for one in augment]

    def look(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """``[batch, classes]`` logits, and maps of the images' size, moved as these images were.

        Raises:
            InputError: A sample was not there when the maps were made.
        """
        places = torch.searchsorted(self.ids, batch.ids).clamp(max=len(self.ids) - 1)
        if not torch.equal(self.ids[places], batch.ids):
            absent = int(batch.ids[self.ids[places] != batch.ids][0])
            raise InputError(
                f"method.frozen_maps: there is none of sample {absent}; name another file for other samples"
            )
        maps = resized(self.maps[places].float(), batch.inputs.shape[2:])
        return self.logits[places].float(), apply(batch.with_(inputs=maps), self.augment).inputs

    def to(self, device: torch.device) -> FrozenMaps:
        """The same on a device; augmentations stay."""
        self.ids, self.logits, self.maps = (one.to(device) for one in (self.ids, self.logits, self.maps))
        return self


def _unchanged(batch: Batch) -> Batch:
    return batch


def freeze_maps(
    explain: Callable[[Batch], tuple[Tensor, Tensor]], examples: Examples, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Identities, logits and maps of a whole split, in the order of identities.

    Args:
        explain: Logits and maps of a batch.
        examples: The split.
        device: Where the model is.
    """
    found: list[tuple[Tensor, ...]] = []
    for start in range(0, len(examples), _CHUNK):
        batch = examples.fetch(range(start, min(start + _CHUNK, len(examples)))).to(device)
        found.append((batch.ids, *(one.detach() for one in explain(batch))))
    ids, logits, maps = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = ids.argsort()
    return ids[order], logits[order], maps[order]


def kept_maps(
    path: Path, about: Mapping[str, str], make: Callable[[], tuple[Tensor, Tensor, Tensor]]
) -> tuple[Tensor, Tensor, Tensor]:
    """What a file keeps, or what is made and kept in it now.

    Args:
        path: The ``.safetensors`` file.
        about: What the maps are of: teacher, data, explanation.
        make: Makes them.

    Raises:
        InputError: The file keeps the maps of something else, or cannot be read.
    """
    if not path.exists():
        ids, logits, maps = make()
        tensors = {"ids": ids.cpu(), "logits": logits.cpu(), "maps": maps.cpu().contiguous()}
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, save(tensors, dict(about)))
        return ids, logits, maps
    try:
        with safe_open(path, "pt") as file:
            found = file.metadata() or {}
            wrong = [key for key, value in about.items() if found.get(key) != value]
            if wrong:
                raise InputError(
                    f"method.frozen_maps: {path} keeps maps of another {wrong[0]}; name another file, or remove it"
                )
            return file.get_tensor("ids"), file.get_tensor("logits"), file.get_tensor("maps")
    except (SafetensorError, OSError) as error:
        raise InputError(f"method.frozen_maps: {path} cannot be read ({error}); name another file") from error
