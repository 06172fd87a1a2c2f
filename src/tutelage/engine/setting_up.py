"""A stage before its first step: what its method asks for and builds."""

from __future__ import annotations

from tutelage.data.batch import Batch, DataInfo
from tutelage.engine.method import Room, Train
from tutelage.engine.ramps import Ramps
from tutelage.engine.randomness import reseed


def set_up(stage: Train, info: DataInfo, example: Batch, seed: int) -> Room:
    """Let a stage's method place its taps and build what it owns; the same stage and seed build the same.

    Args:
        stage: The stage.
        info: Facts about the data.
        example: A few augmented samples, on the models' device.
        seed: Seed of the run.
    """
    trained = {name for turn in stage.method.turns() for name in turn.trains} - {"method"}
    room = Room(stage.models, info, example, sorted(trained), continues=stage.continues is not None)
    # A method may read its numbers while it sets up; by then they must be numbers.
    Ramps(stage.method)
    reseed(seed, stage.name, "setup")
    stage.method.prepare(room)
    return room
