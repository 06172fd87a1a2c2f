"""Models in the roles that a method gave them while it set up."""

from __future__ import annotations

from tutelage.engine.method import Room
from tutelage.models.participant import Participant


def participants(room: Room) -> dict[str, Participant]:
    """Each with the taps that were asked for; the student is trained, and in training mode."""
    found = {
        name: Participant(
            name,
            module,
            trainable=name == "student",
            taps=room.taps(name),
            gradients=name == "student" or name in room.differentiated,
        )
        for name, module in room.modules.items()
    }
    found["student"].mode(True)
    return found
