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
