"""Tutelage's side: seconds a step of the transfer stage, as JSON."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import plain
import torch

from tutelage.engine.listening import Silence
from tutelage.engine.run import Run
from tutelage.engine.stopping import Interruption
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.runfolder import RunFolder


def main(archive: str, augment: str) -> None:
    torch.set_num_threads(1)
    recipe = load_recipe(
        {
            "method": {"name": "kd", "temperature": plain.TEMPERATURE, "alpha": plain.ALPHA},
            "teacher": {"model": "plain:teacher"},
            "student": {"model": "plain:student"},
            "data": {
                "name": "npz",
                "path": archive,
                "validation_fraction": 0.0,
                "augment": [{"name": "shift", "pixels": 1}] if augment == "shift" else [],
            },
            "train": {
                "epochs": plain.EPOCHS,
                "batch_size": plain.BATCH_SIZE,
                "optimizer": {"name": "adamw", "lr": plain.LEARNING_RATE, "weight_decay": plain.WEIGHT_DECAY},
                "checkpoint": {"seconds": None},
            },
            "baseline": False,
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        run = Run(recipe, RunFolder.create(recipe, Path(folder)), Silence(), Interruption())
        run.transfer()
    record = run.records["transfer"]
    json.dump({"seconds": record["seconds"], "cpu": record["cpu_seconds"], "steps": record["steps"]}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
