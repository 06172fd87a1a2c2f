"""What methods share that compare layers: one capture by name, a projector between widths, positions made to fit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tutelage.data.batch import Batch
from tutelage.data.splits import passing
from tutelage.engine.method import Room
from tutelage.models.outputs import Outputs
from tutelage.models.participant import observing
from tutelage.models.paths import modules_of
from tutelage.models.standard import standard_taps_of
from tutelage.recipe.errors import InputError

if TYPE_CHECKING:
    from tutelage.engine.run import Run


def captured(room: Room, name: str, tap: str) -> Tensor:
    """Tap one place of a model, and what it shows for the example.

    Raises:
        InputError: The tap matches nothing, or several places.
    """
    room.tap(name, tap)
    found = room.look(name).taps
    if tap not in found:
        places = ", ".join(found)
        raise InputError(f"the tap '{tap}' is several places of the {name}; name one of: {places}")
    return found[tap]


class Projector(nn.Module):
    """From the student's width to the teacher's, at every position; nothing where they are equal.

    Args:
        student: ``[batch, channels, height, width]``, ``[batch, tokens, width]`` or ``[batch, width]``.
        teacher: Of the same form.
        bias: Whether it adds a constant.

    Raises:
        InputError: The forms differ, or the numbers of tokens.
    """

    def __init__(self, student: Tensor, teacher: Tensor, *, bias: bool = True) -> None:
        super().__init__()
        if student.ndim != teacher.ndim:
            raise InputError(
                f"the student's layer has the shape {list(student.shape[1:])} and the teacher's "
                f"{list(teacher.shape[1:])}: expected two of the same form, such as [channels, height, width]"
            )
        if student.ndim == 3 and student.shape[1] != teacher.shape[1]:
            raise InputError(
                f"the student's layer has {student.shape[1]} tokens and the teacher's {teacher.shape[1]}: expected as "
                "many, for tokens are compared one by one; give both models the same patches, and both or neither a "
                "class token"
            )
        axis = 1 if student.ndim == 4 else -1
        ours, theirs = student.shape[axis], teacher.shape[axis]
        self.map: nn.Module = nn.Identity()
        if ours != theirs:
            self.map = (
                nn.Conv2d(ours, theirs, 1, bias=bias) if student.ndim == 4 else nn.Linear(ours, theirs, bias=bias)
            )

    def forward(self, features: Tensor) -> Tensor:
        """The same positions in the teacher's width."""
        out: Tensor = self.map(features)
        return out


def same_positions(*features: Tensor) -> tuple[Tensor, ...]:
    """Feature maps averaged down to the smallest height and width among them; other forms are left as they are.

    Args:
        *features: ``[batch, channels, height, width]``, or any other form.
    """
    if any(one.ndim != 4 for one in features):
        return features
    size = (min(one.shape[2] for one in features), min(one.shape[3] for one in features))
    return tuple(
        one if one.shape[2:] == size else torch.nn.functional.adaptive_avg_pool2d(one, size) for one in features
    )


def as_tokens(features: Tensor) -> Tensor:
    """``[batch, tokens, width]``: positions of feature maps are tokens, and a vector is one token."""
    if features.ndim == 4:
        return features.flatten(2).transpose(1, 2)
    return features if features.ndim == 3 else features.unsqueeze(1)


def grid_of(module: nn.Module, size: Sequence[int], tokens: int) -> tuple[int, int]:
    """Rows and columns of the patches that a transformer's tokens stand for; tokens beyond these come first.

    Args:
        module: The model; its patches are those of its first convolution that steps as far as it reaches.
        size: Height and width of its inputs.
        tokens: How many there are.

    Raises:
        InputError: No such convolution fits, and the tokens make no square.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d) and part.stride == part.kernel_size and max(part.kernel_size) > 1:
            rows, columns = (extent // step for extent, step in zip(size, part.kernel_size, strict=True))
            if 0 < rows * columns <= tokens:
                return rows, columns
    side = math.isqrt(tokens)
    if side * side not in (tokens, tokens - 1):
        raise InputError(
            f"cannot tell where in the image the {tokens} tokens of {type(module).__name__} lie; expected a "
            "convolution that cuts patches, or a square number of tokens after at most one class token"
        )
    return side, side


def as_map(features: Tensor, grid: tuple[int, int] | None) -> Tensor:
    """``[batch, channels, height, width]``: tokens laid out on their grid, those before it left out.

    Args:
        features: ``[batch, channels, height, width]``, returned as they are, or ``[batch, tokens, width]``.
        grid: Rows and columns of the tokens; not needed for feature maps.
    """
    if features.ndim == 4 or grid is None:
        return features
    places = features[:, features.shape[1] - grid[0] * grid[1] :]
    return places.transpose(1, 2).reshape(features.shape[0], features.shape[2], *grid)


def map_grid(room: Room, name: str, features: Tensor, key: str) -> tuple[int, int] | None:
    """The grid of a model's tokens, for `as_map`; ``None`` for feature maps, which have one already.

    Raises:
        InputError: The features have no positions, or tokens no places.
    """
    if features.ndim == 4:
        return None
    if features.ndim != 3 or room.example.inputs.ndim != 4:
        raise InputError(
            f"{key}: the {name}'s features have the shape {list(features.shape[1:])}; expected a feature map "
            "[channels, height, width], or tokens of an image [tokens, width]"
        )
    return grid_of(room.modules[name], room.example.inputs.shape[2:], features.shape[1])


def classifier_of(room: Room, name: str, path: str = "classifier") -> nn.Linear:
    """A model's last layer.

    Args:
        room: Where the model is.
        name: The model.
        path: Dotted path, or the standard name.

    Raises:
        InputError: It is not there, or no ``nn.Linear``.
    """
    module = room.modules[name]
    if path == "classifier":
        path = standard_taps_of(module, room.example.inputs).get(path, path)
    found = modules_of(module).get(path.partition(":")[0])
    if not isinstance(found, nn.Linear):
        kind = "nothing" if found is None else f"a {type(found).__name__}"
        raise InputError(f"the {name} ({type(module).__name__}) has {kind} at '{path}'; expected its linear classifier")
    return found


def held_out(run: Run, taps: Mapping[str, Sequence[str]]) -> Iterator[tuple[Batch, dict[str, Outputs]]]:
    """The test split in parts, and what finished models make of them, for what a method measures itself.

    Args:
        run: Whose models and data.
        taps: What is captured of each model that is asked, by its name.
    """
    device = run.accelerator.device
    example = run.splits.test.fetch([0]).inputs.to(device)
    with ExitStack() as stack:
        asked = {
            name: stack.enter_context(observing(name, run.models[name], paths, example=example))
            for name, paths in taps.items()
        }
        for part in passing(run.splits.test, 512):
            batch = part.to(device)
            yield batch, {name: one(batch) for name, one in asked.items()}
