"""A step of every method against the bare forward and backward passes of its models.

Methods of one teacher and one student, on coloured images of 32 by 32, in processor time. The peer is the least that
any of them does: the teacher forward without a graph, the student forward and backward from its label loss, and the
optimiser's move. A method that asks for more passes is listed in ``MORE`` with its own limit and the reason.
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
import numpy as np
import torch

from tutelage.data.splits import Nothing
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
BATCHES = 3
MORE: Mapping[str, tuple[float, str]] = {
    "e2kd": (3.0, "explanations take a second derivative of the student and a gradient of the teacher"),
    "activekd": (2.6, "a step has a batch with labels and one without, each through both models"),
    "cutmixpick": (
        4.0,
        "two passes of the student; the teacher sees the batch, two candidates a sample, and the picked ones",
    ),
    "hard-augmentations": (
        5.0,
        "the augmentation has a turn through both models and back; the student compares on two batches",
    ),
}
PAIR: dict[str, Any] = {
    "teacher": {"model": "resnet", "depth": 14, "width": 16},
    "student": {"model": "resnet", "depth": 8, "width": 16},
    "train": {"epochs": 1, "batch_size": 64, "optimizer": {"name": "sgd", "lr": 0.01}, "checkpoint": {"seconds": None}},
    "baseline": False,
}


def methods() -> list[str]:
    own = [e for e in registry().entries("method") if e.package == "tutelage" and e.route == "distill"]
    return [e.name for e in own if set(e.slots) == {"teacher", "student", "data"}]


def images(path: Path) -> Path:
    """Noise: what a step takes does not depend on what is seen."""
    random = np.random.default_rng(0)
    count = 64 * BATCHES
    parts = {"train": count, "test": 20}
    arrays = {f"x_{part}": random.random((n, 3, 32, 32), dtype=np.float32) for part, n in parts.items()}
    np.savez(path, **arrays, **{f"y_{part}": np.arange(n) % 10 for part, n in parts.items()})
    return path


def trainer(name: str, folder: Path, data: Path) -> Trainer:
    """The method's first stage, ready to step; the teacher's weights are random, which costs as much."""
    recipe = load_recipe(
        {**PAIR, "data": {"name": "npz", "path": str(data), "validation_fraction": 0.0}, "method": name}
    )
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
    for callback in work.callbacks:
        callback.started(work)

    def measure() -> float:
        work.step = work.position = 0
        start = time.process_time()
        for batch in batches:
            work._step(batch)
        return (time.process_time() - start) / len(batches)

    return measure


def peer(work: Trainer) -> Callable[[], float]:
    teacher, student = work.stage.models["teacher"], work.stage.models["student"]
    batches = list(work.batches(0))
    optimizer = torch.optim.SGD(student.parameters(), 0.0, momentum=0.9)

    def measure() -> float:
        teacher.eval()
        student.train()
        start = time.process_time()
        for batch in batches:
            with torch.no_grad():
                teacher(batch.inputs)
            optimizer.zero_grad()
            cross_entropy(student(batch.inputs), batch.labels).mean().backward()
            optimizer.step()
        return (time.process_time() - start) / len(batches)

    return measure


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("names", nargs="*", help="methods; all of one teacher and one student unless given")
    options = parser.parse_args()
    torch.set_num_threads(1)
    within = True
    with tempfile.TemporaryDirectory() as folder:
        data = images(Path(folder) / "noise.npz")
        for name in options.names or methods():
            try:
                work = trainer(name, Path(folder), data)
            except InputError as error:
                print(f"step-{name}: not measured on this pair: {error}", file=sys.stderr)
                continue
            if isinstance(work.examples, Nothing):
                print(f"step-{name}: not measured: it makes its inputs itself", file=sys.stderr)
                continue
            if not {"teacher", "student"} <= set(work.stage.models):
                print(f"step-{name}: not measured: its first stage trains one model alone", file=sys.stderr)
                continue
            found = measuring.alternate({"ours": ours(work), "peer": peer(work)}, options.repeats)
            about = "CPU seconds a step; peer: the bare passes of the two models and the optimiser's move"
            limit, reason = MORE.get(name, (LIMIT, ""))
            about += f"; {reason}" if reason else ""
            within &= measuring.compared(f"step-{name}", found["ours"], found["peer"], limit, about=about)
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
