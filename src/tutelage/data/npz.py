"""NumPy archives."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Lt

from tutelage.data.arrow import PARTS, identity, order_names
from tutelage.data.batch import DataInfo
from tutelage.data.dividing import stratified
from tutelage.data.faults import Faults
from tutelage.data.pool import Pool, assemble, check_classes, digests, fingerprint, normalized, repeats
from tutelage.data.splits import Splits, TensorExamples
from tutelage.recipe.errors import InputError, nearest
from tutelage.recipe.registry import component

Array = np.ndarray[Any, Any]


@component("data", "npz")
@dataclass(frozen=True, kw_only=True)
class Npz(Pool):
    """Arrays of an ``.npz`` archive, held in memory.

    The archive has ``x`` and ``y``, which are divided here, or ``x_train``, ``y_train``, ``x_test``, ``y_test`` and,
    optionally, ``x_validation``, ``y_validation``. Inputs are ``[count, features]``, ``[count, height, width]`` or
    ``[count, channels, height, width]`` (channels 1 or 3, first or last); bytes are scaled to [0, 1]. Labels are whole
    numbers or words. Arrays of Python objects are refused, because reading them runs code.

    Args:
        test_fraction: Fraction of each class kept for testing, where the archive has no test arrays.
        validation_fraction: Fraction of each class of the training data kept for validation, where it has no such
            arrays.
        path: The archive.
        on_bad: What to do with samples that are not finite: ``refuse`` the data and name them, or ``skip`` them and
            record it.
    """

    path: str
    validation_fraction: Annotated[float, Ge(0), Lt(1)] = 0.1
    on_bad: Literal["refuse", "skip"] = "refuse"

    def load(self, seed: int) -> Splits:
        """Read and divide the arrays.

        Args:
            seed: The run's seed, used only when ``split_seed`` is ``None``.

        Raises:
            InputError: The archive or an array is missing, shapes disagree, or values cannot be used.
        """
        path = Path(self.path).expanduser()
        arrays = _read(path)
        pool = "x" in arrays
        faults = Faults(self.on_bad)
        found = {}
        for part in ("train",) if pool else PARTS:
            suffix = "" if pool else f"_{part}"
            if part == "validation" and f"x{suffix}" not in arrays:
                continue
            found[part] = _pair(arrays, f"x{suffix}", f"y{suffix}", path, faults)
        warnings = faults.settle(sum(len(y) for _, y in found.values()))
        shapes = {part: x.shape[1:] for part, (x, _) in found.items()}
        for part, shape in shapes.items():
            if shape != shapes["train"]:
                raise InputError(
                    f"{path}: x_{part} has samples of shape {shape}, x_train of {shapes['train']}: they must agree"
                )
        names = order_names(sorted({str(label) for label in found["train"][1].tolist()}))
        check_classes(names)
        for part, (_, y) in found.items():
            unknown = next((str(label) for label in y.tolist() if str(label) not in names), None)
            if unknown is not None:
                raise InputError(
                    f"{path}: y_{part} has the class '{unknown}', which y_train lacks. {nearest(unknown, names)}"
                )
        codes = {name: code for code, name in enumerate(names)}
        inputs = torch.from_numpy(np.concatenate([x for x, _ in found.values()]))
        labels = torch.tensor([codes[str(label)] for _, y in found.values() for label in y.tolist()])
        about = {"data": "npz", "file": identity([path], {})}
        if pool:
            return self.divide(inputs, labels, names=names, seed=seed, about=about, warnings=warnings)
        chosen = self.seed_of_split(seed)
        ranges = dict(zip(found, torch.arange(len(labels)).split([len(y) for _, y in found.values()]), strict=True))
        given = "validation" in found
        fraction = 0.0 if given else self.validation_fraction
        division = stratified(labels[ranges["train"]], validation=fraction, test=0.0, seed=chosen, names=names)
        parts = {
            "train": division.train,
            "validation": ranges["validation"] if given else division.validation,
            "test": ranges["test"],
        }
        how = {"validation_fraction": fraction, "split_seed": chosen, "normalize": self.normalize}
        mark = fingerprint([inputs, labels], {**about, **how, "skipped": warnings})
        warnings += [*division.warnings, *repeats(digests(inputs), parts)]
        inputs = normalized(inputs, parts["train"]) if self.normalize == "data" else inputs
        return assemble(
            {name: TensorExamples(inputs[at], labels[at], at) for name, at in parts.items()},
            DataInfo(tuple(inputs.shape[1:]), len(names), tuple(names), mark),
            warnings,
            {**about, **how, "path": str(path), "classes": dict(enumerate(names))},
        )


def _read(path: Path) -> dict[str, Array]:
    if not path.is_file():
        beside = [f.name for f in path.parent.glob("*.npz")] if path.parent.is_dir() else []
        raise InputError(f"data.path: there is no file {path}. {nearest(path.name, beside)}".strip())
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise InputError(
                f"{path} holds a single array: save inputs and labels with numpy.savez(file, x=..., y=...)"
            )
        with archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} is not an archive of numeric arrays ({error}): write it with numpy.savez(file, x=..., y=...)"
        ) from error


def _pair(arrays: dict[str, Array], x: str, y: str, path: Path, faults: Faults) -> tuple[Array, Array]:
    """Inputs ``[count, *shape]`` float32 and labels ``[count]`` of good samples."""
    for name in (x, y):
        if name not in arrays:
            raise InputError(
                f"{path} has no array '{name}': expected x and y, or x_train, y_train, x_test, y_test. "
                f"{nearest(name, arrays)}"
            )
    inputs, labels = _shaped(arrays[x], x, path), arrays[y]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != inputs.shape[:1]:
        raise InputError(
            f"{path}: '{x}' has {len(inputs)} samples and '{y}' has shape {labels.shape}, expected ({len(inputs)},)"
        )
    if labels.dtype.kind == "f":
        whole = labels == np.floor(labels)
    elif labels.dtype.kind in "iuUb":
        whole = np.ones(len(labels), dtype=bool)
    else:
        raise InputError(f"{path}: '{y}' holds {labels.dtype}, expected whole numbers or words")
    finite = np.isfinite(inputs).all(tuple(range(1, inputs.ndim)))
    for at in np.flatnonzero(~(whole & finite)).tolist():
        faults.add(f"{x}[{at}]", f"label {labels[at]} is no class" if not whole[at] else "a value is not finite")
    good = whole & finite
    labels = labels[good]
    return inputs[good], labels.astype(np.int64) if labels.dtype.kind in "fb" else labels


def _shaped(array: Array, name: str, path: Path) -> Array:
    """float32 with the channels first."""
    if array.dtype.kind not in "iufb":
        raise InputError(f"{path}: '{name}' holds {array.dtype}, expected numbers")
    if not 2 <= array.ndim <= 4 or 0 in array.shape[1:]:
        raise InputError(
            f"{path}: '{name}' has shape {array.shape}, expected [count, features], [count, height, width] or "
            "images with channels"
        )
    if array.ndim == 4 and array.shape[1] not in (1, 3):
        if array.shape[3] not in (1, 3):
            raise InputError(f"{path}: '{name}' has shape {array.shape}: images have 1 or 3 channels, first or last")
        array = array.transpose(0, 3, 1, 2)
    array = array[:, None] if array.ndim == 3 else array
    inputs = np.ascontiguousarray(array, dtype=np.float32)
    return inputs / np.float32(255) if array.dtype == np.uint8 else inputs
