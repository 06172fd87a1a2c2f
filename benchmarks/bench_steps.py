"""A step of every method against the bare forward and backward passes of its models.

Methods of one teacher and one student. The peer is the least that any of them does: the teacher forward without a
graph, the student forward and backward from its label loss, and the optimiser's move. A method that asks for more
passes is listed in ``MORE`` with its own limit and the reason.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import measuring
import torch

from tutelage.engine.listening import Silence
from tutelage.engine.run import Run
from tutelage.engine.stopping import Interruption
from tutelage.engine.trainer import Trainer
from tutelage.losses import cross_entropy
from tutelage.recipe.errors import InputError
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.registry import registry
from tutelage.recipe.runfolder import RunFolder

LIMIT = 1.3
BATCHES = 8
MORE: Mapping[str, tuple[float, str]] = {
    "e2kd": (3.0, "explanations take a second derivative of the student and a gradient of the teacher"),
}
PAIR: dict[str, Any] = {
    "teacher": {"model": "resnet", "depth": 14, "width": 16},
    "student": {"model": "resnet", "depth": 8, "width": 16},
    "data": {"name": "digits", "limit": 64 * BATCHES},
    "train": {"epochs": 1, "batch_size": 64, "optimizer": {"name": "sgd", "lr": 0.01}, "checkpoint": {"seconds": None}},
    "baseline": False,
}


def methods() -> list[str]:
    own = [e for e in registry().entries("method") if e.package == "tutelage" and e.route == "distill"]
    return [e.name for e in own if set(e.slots) == {"teacher", "student", "data"}]


def trainer(name: str, folder: Path) -> Trainer:
    """The method's first stage, ready to step; the teacher's weights are random, which costs as much."""
    recipe = load_recipe({**PAIR, "method": name})
    run = Run(recipe, RunFolder.create(recipe, folder / name, exact=True), Silence(), Interruption())
    for slot in recipe.models:
        run.source(slot)
    stage = next(iter(run.method(recipe.method).stages(run)))
    return Trainer(
        stage,
        splits=run.splits,
        augment=(),
        accelerator=run.accelerator,
        seed=0,
        folder=folder / name / "stages" / stage.name,
        listener=Silence(),
        interruption=Interruption(),
    )


def ours(work: Trainer) -> Callable[[], float]:
    batches = list(work.batches(0))
    for participant in work.participants.values():
        participant.mode(True)

    def measure() -> float:
        work.step = work.position = 0
        start = time.perf_counter()
        for batch in batches:
            work._step(batch)
        return (time.perf_counter() - start) / len(batches)

    return measure


def peer(work: Trainer) -> Callable[[], float]:
    teacher, student = work.stage.models["teacher"], work.stage.models["student"]
    batches = list(work.batches(0))
    optimizer = torch.optim.SGD(student.parameters(), 0.0, momentum=0.9)

    def measure() -> float:
        teacher.eval()
        student.train()
        start = time.perf_counter()
        for batch in batches:
            with torch.no_grad():
                teacher(batch.inputs)
            optimizer.zero_grad()
            cross_entropy(student(batch.inputs), batch.labels).mean().backward()
            optimizer.step()
        return (time.perf_counter() - start) / len(batches)

    return measure


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("names", nargs="*", help="methods; all of one teacher and one student unless given")
    options = parser.parse_args()
    torch.set_num_threads(1)
    within = True
    with tempfile.TemporaryDirectory() as folder:
        for name in options.names or methods():
            try:
                work = trainer(name, Path(folder))
            except InputError as error:
                print(f"step-{name}: not measured on this pair: {error}", file=sys.stderr)
                continue
            found = measuring.alternate({"ours": ours(work), "peer": peer(work)}, options.repeats)
            about = "seconds a step; peer: the bare passes of the two models and the optimiser's move"
            limit, reason = MORE.get(name, (LIMIT, ""))
            about += f"; {reason}" if reason else ""
            within &= measuring.compared(f"step-{name}", found["ours"], found["peer"], limit, about=about)
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
