"""Dividing positions into parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.data.seeds import shuffle
from tutelage.recipe.errors import InputError


def by_class(labels: Tensor, seed: int) -> list[Tensor]:
    """Positions of each class present, each in seeded order."""
    order = shuffle(len(labels), seed)
    return [order[labels[order] == label] for label in labels.unique().tolist()]


@dataclass(frozen=True)
class Division:
    """Positions of each part, sorted, and what was remarkable in making them."""

    train: Tensor
    validation: Tensor
    test: Tensor
    warnings: tuple[str, ...] = ()


def stratified(labels: Tensor, *, validation: float, test: float, seed: int, names: Sequence[str] = ()) -> Division:
    """Divide positions so that every class is spread over the parts in the same proportion.

    Args:
        labels: ``[count]`` int64.
        validation: Fraction for validation, in [0, 1).
        test: Fraction for testing, in [0, 1); ``validation + test`` below 1.
        seed: Seed of the division; the same labels and seed give the same parts.
        names: Class names for warnings.

    Returns:
        The parts. A class keeps at least one sample for training; a part with a positive fraction gets at least one of
        each class that has enough, otherwise a warning names the class.

    Raises:
        InputError: The fractions leave nothing to train on.
    """
    if validation < 0 or test < 0 or validation + test >= 1:
        raise InputError(
            f"validation {validation} and test {test} must be >= 0 and add up to less than 1, so that some is "
            "left to train on"
        )
    parts: list[list[Tensor]] = [[], [], []]
    warnings = []
    wanted = 1 + (validation > 0) + (test > 0)
    for members in by_class(labels, seed):
        total = len(members)
        tested = min(max(round(total * test), int(test > 0)), total - 1)
        validated = min(max(round(total * validation), int(validation > 0)), total - 1 - tested)
        if total < wanted:
            label = int(labels[members[0]])
            name = names[label] if names else str(label)
            warnings.append(
                f"class '{name}' has {total} samples, too few for each of {wanted} parts: train, then test, come first"
            )
        for part, piece in zip(parts, members.split([tested, validated, total - tested - validated]), strict=True):
            part.append(piece)
    tested_all, validated_all, trained_all = (torch.cat(part).sort().values for part in parts)
    return Division(trained_all, validated_all, tested_all, tuple(warnings))
