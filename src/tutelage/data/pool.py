"""One pool of samples in memory, divided into parts: scaling, normalisation, fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from tutelage.data.batch import DataInfo
from tutelage.data.dividing import stratified
from tutelage.data.domains import Domains, divide_by_domain
from tutelage.data.splits import Splits, TensorExamples
from tutelage.recipe.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Keys of a data set that comes without an official division.

    Args:
        test_fraction: Fraction of each class kept for testing.
        validation_fraction: Fraction of each class kept for validation; 0 for none.
        split_seed: Seed of the division into parts. It does not follow the run's seed unless ``null``, so that a
            teacher trained with another seed has not seen this run's test samples.
        normalize: ``none`` leaves the inputs as they are (pixels in [0, 1]); ``data`` subtracts the training split's
            mean and divides by its standard deviation, for each channel or feature.
    """

    test_fraction: Annotated[float, Gt(0), Lt(1)] = 0.2
    validation_fraction: Annotated[float, Ge(0), Lt(1)] = 0.1
    split_seed: Annotated[int, Ge(0)] | None = 0
    normalize: Literal["none", "data"] = "none"

    def seed_of_split(self, seed: int) -> int:
        """The seed of the division, given the run's."""
        return seed if self.split_seed is None else self.split_seed

    def divide(
        self,
        inputs: Tensor,
        labels: Tensor,
        *,
        names: Sequence[str],
        seed: int,
        about: Mapping[str, Any],
        warnings: Sequence[str] = (),
        domains: Domains | None = None,
    ) -> Splits:
        """Splits of samples held in memory; ids are positions in the pool.

        Args:
            inputs: ``[count, *input_shape]`` float32.
            labels: ``[count]`` int64.
            names: Class names in label order.
            seed: The run's seed.
            about: What made the tensors, for the fingerprint and the record.
            warnings: What reading them found.
            domains: Where the samples come from; those held out are tested on, whatever the fraction for testing.

        Raises:
            InputError: There is one class only, or the fractions leave nothing for some part.
        """
        check_classes(names)
        chosen = self.seed_of_split(seed)
        fractions = {"validation": self.validation_fraction, "test": self.test_fraction}
        how: dict[str, Any] = {
            **{f"{part}_fraction": fraction for part, fraction in fractions.items()},
            "split_seed": chosen,
            "normalize": self.normalize,
        }
        if domains is None:
            parts = stratified(labels, **fractions, seed=chosen, names=names)
        else:
            parts = divide_by_domain(labels, domains, **fractions, seed=chosen, names=names)
            how |= domains.record()
        positions = {"train": parts.train, "validation": parts.validation, "test": parts.test}
        repeated = repeats(digests(inputs), positions)
        mark = fingerprint([inputs, labels], {**about, **how})
        inputs = normalized(inputs, parts.train) if self.normalize == "data" else inputs
        splits = assemble(
            {name: TensorExamples(inputs[at], labels[at], at) for name, at in positions.items()},
            DataInfo(tuple(inputs.shape[1:]), len(names), tuple(names), mark),
            [*warnings, *parts.warnings, *repeated],
            {**about, "division": "stratified", **how},
        )
        return splits if domains is None else replace(splits, domains=domains)


def assemble(parts: Mapping[str, Any], info: DataInfo, warnings: Sequence[str], record: Mapping[str, Any]) -> Splits:
    """Splits of three named parts.

    Raises:
        InputError: There is nothing to train on or to test on.
    """
    for name in ("train", "test"):
        if not len(parts[name]):
            raise InputError(f"the {name} split has no samples: choose other fractions, or give more data")
    sizes = {name: len(part) for name, part in parts.items()}
    validation = parts["validation"] if sizes["validation"] else None
    return Splits(parts["train"], validation, parts["test"], info, list(warnings), {**record, "sizes": sizes})


def check_classes(names: Sequence[str]) -> None:
    """Refuse data that there is nothing to tell apart in.

    Raises:
        InputError: There are fewer than two classes.
    """
    if len(names) < 2:
        found = f"one class only, '{names[0]}'" if names else "no class"
        raise InputError(f"the data has {found}: classification needs at least 2")


def digest(data: bytes) -> int:
    """A signed 64-bit hash of a sample's content."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little", signed=True)


def digests(inputs: Tensor) -> Tensor:
    """``[count]`` int64: a hash of each sample's content."""
    return torch.tensor([digest(row.tobytes()) for row in inputs.contiguous().numpy()], dtype=torch.int64)


def repeats(content: Tensor, parts: Mapping[str, Tensor]) -> list[str]:
    """Warnings of samples outside the training split whose content is in it: a score on them is partly memory.

    Args:
        content: ``[count]`` int64 hashes of all samples.
        parts: Positions of ``train`` and of the other parts.
    """
    found = []
    for name, positions in parts.items():
        count = int(torch.isin(content[positions], content[parts["train"]]).sum()) if name != "train" else 0
        if count:
            found.append(f"{count} of {len(positions)} {name} samples have the same content as a training sample")
    return found


def fingerprint(tensors: Sequence[Tensor], about: Mapping[str, Any]) -> str:
    """SHA-256 of the tensors' bytes and of how they were prepared."""
    digest = hashlib.sha256(json.dumps(dict(about), sort_keys=True, default=str).encode())
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def statistics(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel or feature.

    Args:
        inputs: ``[count, channels, height, width]`` or ``[count, features]``, float.

    Returns:
        Two float32 tensors that broadcast over one sample; what does not vary has standard deviation 1.
    """
    axes = (0, *range(2, inputs.ndim))
    shape = (-1, *(1 for _ in inputs.shape[2:]))
    mean = inputs.mean(axes, dtype=torch.float64)
    # Centred before squaring: large features (years, prices) would lose their variance in a difference of squares.
    deviation = (inputs - mean.reshape(shape).float()).square().mean(axes, dtype=torch.float64).sqrt()
    deviation[deviation <= 1e-7 * mean.abs()] = 1.0
    return mean.float().reshape(shape), deviation.float().reshape(shape)


def streamed_statistics(chunks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """What ``statistics`` gives for the concatenation of chunks, holding one at a time."""
    count, centre, total, squares = 0, torch.zeros(()), torch.zeros(()), torch.zeros(())
    for chunk in chunks:
        axes = (0, *range(2, chunk.ndim))
        if not count:
            # Sums are taken about the first chunk's mean, so that large values keep their variance.
            centre = statistics(chunk)[0].double()
            total, squares = torch.zeros_like(centre), torch.zeros_like(centre)
        away = chunk.double() - centre
        total += away.sum(axes).reshape(centre.shape)
        squares += away.square().sum(axes).reshape(centre.shape)
        count += chunk.numel() // centre.numel()
    if not count:
        raise InputError("the training split has no samples to normalise by")
    mean = centre + total / count
    deviation = (squares / count - (total / count).square()).clamp_min(0).sqrt()
    deviation[deviation <= 1e-7 * mean.abs()] = 1.0
    return mean.float(), deviation.float()


def normalized(inputs: Tensor, train: Tensor) -> Tensor:
    """Inputs standardised by the statistics of the samples at the positions ``train``."""
    mean, deviation = statistics(inputs[train])
    return (inputs - mean) / deviation
