"""The engine against a loop written by hand that does the same arithmetic on the same batches.

Both sides train the student of recipes/quickstart.yaml from the same start with the same teacher, order, views, loss,
optimiser and schedule, validate after each epoch and write the student's weights down at the end. They must end with
equal weights, to the bit; otherwise the comparison would compare nothing.

The engine's side also finds numbers that are not finite, logs each term and the gradient's norm, and can be resumed at
any step; the hand-written side does not.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import measuring
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tutelage.data.batch import Batch
from tutelage.data.loader import apply
from tutelage.data.seeds import mix, shuffle
from tutelage.engine.listening import Silence
from tutelage.engine.randomness import derive
from tutelage.engine.run import Run
from tutelage.engine.stopping import Interruption
from tutelage.losses import cross_entropy, wttm
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.runfolder import RunFolder
from tutelage.recipe.spec import Recipe

LIMIT = 1.05


def prepared(recipe: Recipe, folder: Path) -> Run:
    """A run whose teacher is ready and whose transfer stage is not."""
    run = Run(recipe, RunFolder.create(recipe, folder), Silence(), Interruption())
    run.source("teacher")
    return run


def by_hand(
    student: nn.Module, teacher: nn.Module, recipe: Recipe, splits: Any, augment: Any, out: Path
) -> list[dict[str, float]]:
    """What one would write without a framework."""
    train, validation, settings, arguments = splits.train, splits.validation, recipe.train, recipe.method.args
    inputs, labels, ids = train.inputs, train.labels, train.ids
    count, size, seed = len(labels), settings.batch_size, derive(recipe.seed, "data")
    optimizer = settings.optimizer.build([{"params": list(student.parameters())}])
    base = optimizer.param_groups[0]["lr"]
    steps = settings.epochs * -(-count // size)
    schedule = settings.schedule.build(steps)
    teacher.eval().requires_grad_(False)
    history = []
    step = 0
    for epoch in range(settings.epochs):
        student.train()
        order = shuffle(count, seed, epoch)
        seeds = mix(seed, epoch, ids[order])
        total = 0.0
        for start in range(0, count, size):
            rows = order[start : start + size]
            batch = apply(Batch(inputs[rows], labels[rows], ids[rows], seeds[start : start + size]), augment)
            optimizer.param_groups[0]["lr"] = base * schedule(step)
            with torch.no_grad():
                target = teacher(batch.inputs)
            logits = student(batch.inputs)
            transfer = wttm(logits, target, exponent=arguments["exponent"]).mean()
            loss = cross_entropy(logits, batch.labels).mean() + arguments["beta"] * transfer
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
            step += 1
        student.eval()
        with torch.no_grad():
            logits = student(validation.inputs)
            right = (logits.argmax(1) == validation.labels).float().mean().item()
            away = cross_entropy(logits, validation.labels).mean().item()
        history.append({"loss": total / count, "accuracy": right, "validation_loss": away})
    save_file(student.state_dict(), out)
    return history


def sides(recipe: Recipe, folder: Path) -> tuple[Any, Any]:
    """The two sides as functions that return the wall and CPU seconds they took and the weights they ended with."""

    def ours() -> tuple[float, float, dict[str, Tensor]]:
        run = prepared(recipe, folder)
        wall, cpu = time.perf_counter(), time.process_time()
        run.transfer()
        spent = time.perf_counter() - wall, time.process_time() - cpu
        return *spent, run.models["student"].state_dict()

    def peer() -> tuple[float, float, dict[str, Tensor]]:
        run = prepared(recipe, folder)
        student, teacher = run.fresh("student"), copy.deepcopy(run.models["teacher"])
        wall, cpu = time.perf_counter(), time.process_time()
        by_hand(student, teacher, recipe, run.splits, run.augment, run.folder.path / "student.safetensors")
        return time.perf_counter() - wall, time.process_time() - cpu, student.state_dict()

    return ours, peer


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether two sets of weights are the same to the bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--profile", action="store_true", help="print where the engine's time goes instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TUTELAGE_CACHE"] = str(Path(folder) / "cache")
        recipe = load_recipe(measuring.ROOT / "recipes" / "quickstart.yaml")
        ours, peer = sides(recipe, Path(folder))
        if options.profile:
            return profile(ours)
        if not equal(ours()[2], peer()[2]):
            print("the two sides ended with different weights, so their times cannot be compared", file=sys.stderr)
            return 1
        cpu: dict[str, list[float]] = {"ours": [], "peer": []}

        def timed(name: str, side: Any) -> Any:
            def measure() -> float:
                wall, own, _ = side()
                cpu[name].append(own)
                return float(wall)

            return measure

        found = measuring.alternate({"ours": timed("ours", ours), "peer": timed("peer", peer)}, options.repeats)
    about = (
        "transfer stage of recipes/quickstart.yaml, least processor time of each side; peer: a hand-written PyTorch "
        "loop, equal weights to the bit"
    )
    within = measuring.compared("engine", cpu["ours"], cpu["peer"], LIMIT, about=about, least=True, wall=found)
    return 0 if within else 1


def profile(side: Any) -> int:
    import cProfile
    import pstats

    side()
    profiler = cProfile.Profile()
    profiler.enable()
    side()
    profiler.disable()
    for order in ("tottime", "cumtime"):
        pstats.Stats(profiler).sort_stats(order).print_stats(40)
    return 0


if __name__ == "__main__":
    sys.exit(main())
