"""What methods share that compare layers: one capture by name, a projector between widths, positions made to fit."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tutelage.engine.method import Room
from tutelage.recipe.errors import InputError


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
        InputError: The forms differ.
    """

    def __init__(self, student: Tensor, teacher: Tensor, *, bias: bool = True) -> None:
        super().__init__()
        if student.ndim != teacher.ndim:
            raise InputError(
                f"the student's layer has the shape {list(student.shape[1:])} and the teacher's "
                f"{list(teacher.shape[1:])}: expected two of the same form, such as [channels, height, width]"
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


def fit_positions(features: Tensor, like: Tensor) -> Tensor:
    """Feature maps averaged down, or repeated up, to the height and width of others; other forms are left as they are.

    Args:
        features: ``[batch, channels, height, width]`` or any other form.
        like: Gives the positions.
    """
    if features.ndim != 4 or features.shape[2:] == like.shape[2:]:
        return features
    return torch.nn.functional.adaptive_avg_pool2d(features, (like.shape[2], like.shape[3]))
