"""From arrays of pixels to splits: scaling, normalisation, division, fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from tutelage.data.batch import DataInfo
from tutelage.data.splits import Splits, TensorExamples, stratified
from tutelage.recipe.errors import InputError

Normalize = Literal["none", "data"]


def fingerprint(tensors: Sequence[Tensor], preparation: Mapping[str, Any]) -> str:
    """SHA-256 of the tensors' bytes and of how they were prepared."""
    digest = hashlib.sha256(json.dumps(dict(preparation), sort_keys=True, default=str).encode())
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(memoryview(tensor.contiguous().numpy()).cast("B"))
    return digest.hexdigest()


def statistics(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel or feature.

    Args:
        inputs: ``[count, channels, height, width]`` or ``[count, features]``.

    Returns:
        Two tensors that broadcast over one sample; a channel that does not vary has standard deviation 1.
    """
    axes = (0, *range(2, inputs.ndim))
    mean = inputs.mean(axes, dtype=torch.float64)
    deviation = (inputs.square().mean(axes, dtype=torch.float64) - mean.square()).clamp_min(0).sqrt()
    deviation[deviation < 1e-8 * (1 + mean.abs())] = 1.0
    shape = (-1, *(1 for _ in inputs.shape[2:]))
    return mean.float().reshape(shape), deviation.float().reshape(shape)


def divide(
    inputs: Tensor,
    labels: Tensor,
    *,
    class_names: Sequence[str],
    validation_fraction: float,
    test_fraction: float,
    seed: int,
    normalize: Normalize,
    preparation: Mapping[str, Any],
    warnings: Sequence[str] = (),
) -> Splits:
    """Splits of one pool of samples held in memory; ids are positions in the pool.

    Args:
        inputs: ``[count, *input_shape]`` float32.
        labels: ``[count]`` int64.
        class_names: Names in label order.
        validation_fraction: Fraction for validation; 0 for no validation split.
        test_fraction: Fraction for testing, above 0.
        seed: Seed of the division.
        normalize: ``data`` subtracts the training split's mean and divides by its standard deviation.
        preparation: What made the tensors, for the fingerprint.
        warnings: What reading them found.
    """
    if len(class_names) < 2:
        raise InputError(f"the data has {len(class_names)} class ({', '.join(class_names)}): classification needs at least 2")
    division = stratified(labels, validation=validation_fraction, test=test_fraction, seed=seed, names=class_names)
    how = {"validation_fraction": validation_fraction, "test_fraction": test_fraction, "seed": seed, "normalize": normalize}
    mark = fingerprint([inputs, labels], {**preparation, **how})
    if normalize == "data":
        mean, deviation = statistics(inputs[division.train])
        inputs = (inputs - mean) / deviation

    def part(positions: Tensor) -> TensorExamples:
        return TensorExamples(inputs[positions], labels[positions], positions)

    sizes = {"train": len(division.train), "validation": len(division.validation), "test": len(division.test)}
    return Splits(
        part(division.train),
        part(division.validation) if len(division.validation) else None,
        part(division.test),
        DataInfo(tuple(inputs.shape[1:]), len(class_names), tuple(class_names), mark),
        [*warnings, *division.warnings],
        {"made": "stratified", **how, "sizes": sizes},
    )
