"""A stage before its first step: what its method asks for and builds."""

from __future__ import annotations

from tutelage.data.batch import Batch, DataInfo
from tutelage.data.splits import Examples
from tutelage.engine.method import Room, Train
from tutelage.engine.ramps import Ramps
from tutelage.engine.randomness import reseed


def set_up(stage: Train, info: DataInfo, example: Batch, seed: int, examples: Examples) -> Room:
    """Let a stage's method place its taps and build what it owns; the same stage and seed build the same.

    Args:
        stage: The stage.
        info: Facts about the data.
        example: A few augmented samples, on the models' device.
        seed: Seed of the run.
        examples: What is trained on.
    """
    trained = {name for turn in stage.method.turns() for name in turn.trains} - {"method"}
    goes_on = stage.continues is not None
    room = Room(stage.models, info, example, sorted(trained), continues=goes_on, examples=examples)
    # A method may read its numbers while it sets up; by then they must be numbers.
    Ramps(stage.method)
    reseed(seed, stage.name, "setup")
    stage.method.prepare(room)
    return room
