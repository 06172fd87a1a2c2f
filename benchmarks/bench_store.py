"""Training from stored logits against training beside the teacher that made them.

Both sides train the same student from the same start on the same views of the digits, by classic distillation from the
same teacher, sixteen times as wide. One asks the teacher at every step; the other finds its logits in a store, written
before and not timed. All classes are kept in full precision, so both must end with the same weights, to the bit, and
so with the same accuracy.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import measuring
import torch
from torch import Tensor

from tutelage.engine import storing
from tutelage.engine.listening import Silence
from tutelage.engine.predicting import predict, score
from tutelage.engine.run import Run
from tutelage.engine.stopping import Interruption
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.runfolder import RunFolder
from tutelage.recipe.spec import Recipe

LIMIT = 1 / 1.5
VIEWS = 2
RECIPE: dict[str, Any] = {
    "method": "kd",
    "teacher": {
        "model": "convnet",
        "width": 64,
        "weights": {"train": {"epochs": 2}},
        "store": {"views": VIEWS, "dtype": "fp32"},
    },
    "student": {"model": "convnet", "width": 4},
    "data": {"name": "digits", "augment": [{"name": "shift", "pixels": 1}]},
    "train": {"epochs": 6, "batch_size": 64, "optimizer": {"name": "adamw", "lr": 2e-3}},
    "measure": ["accuracy"],
    "baseline": False,
}

Side = Callable[[], tuple[float, float, dict[str, Tensor]]]


def trained(recipe: Recipe, folder: Path, *, stored: bool) -> tuple[float, float, dict[str, Tensor]]:
    """Seconds of an epoch, test accuracy and weights of a student; a store is complete when the clock starts."""
    run = Run(recipe, RunFolder.create(recipe, folder), Silence(), Interruption())
    run.source("teacher")
    method = run.method(recipe.method)
    seconds = 0.0
    for stage in method.stages(run):
        own = storing.replayed(stage, recipe)
        run.execute(own if stored else replace(own, stored={}))
        seconds += run.records[stage.name]["seconds"]
    student = run.models["student"]
    right = score(predict(student, (student,), run.splits.test, torch.device("cpu")))["accuracy"]
    return seconds / recipe.train.epochs, right, student.state_dict()


def sides(recipe: Recipe, folder: Path) -> dict[str, Side]:
    """Training from a store, and beside the teacher."""
    return {
        "ours": lambda: trained(recipe, folder, stored=True),
        "peer": lambda: trained(recipe, folder, stored=False),
    }


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether two sets of weights are the same to the bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TUTELAGE_CACHE"] = str(Path(folder) / "cache")
        recipe = load_recipe(RECIPE)
        both = sides(recipe, Path(folder))
        # The first run trains the teacher and writes the store.
        first, second = both["ours"](), both["peer"]()
        if first[1] != second[1] or not equal(first[2], second[2]):
            print("the two sides ended differently, so their times cannot be compared", file=sys.stderr)
            return 1
        found = measuring.alternate(
            {name: (lambda side=side: side()[0]) for name, side in both.items()}, options.repeats
        )
    about = (
        f"an epoch of kd on digits, {VIEWS} views stored in full; peer: the same with the teacher asked at every step; "
        "equal weights to the bit"
    )
    within = measuring.compared(
        "store", found["ours"], found["peer"], LIMIT, about=about, accuracy=[first[1], second[1]]
    )
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
