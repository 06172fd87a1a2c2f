"""The engine against torchdistill's distillation box: KD on the same plain torch models, data, optimiser and schedule.

The models and the data are those of recipes/quickstart.yaml, with its augmentation (a shift by up to a pixel), which
torchdistill has from torchvision as its users do; and again without any, where both do little but the same arithmetic.

torchdistill lives in an environment of its own, made once in the user's cache folder. Both sides are processes of one
thread that take turns; what counts is seconds a step of the loop, without imports and set-up. Neither side validates,
torchdistill logs nothing and gets the fused optimiser, which its own recipes do not use.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import measuring
import numpy as np

from tutelage.recipe.loading import load_recipe

LIMIT = 0.9
HERE = Path(__file__).resolve().parent
VERSION = "1.1.5"


def archive(path: Path) -> Path:
    """The digits' training part as arrays that both sides read."""
    recipe = load_recipe(measuring.ROOT / "recipes" / "quickstart.yaml")
    splits = recipe.slots["data"].build().load(0)
    train, test = (part.fetch(range(len(part))) for part in (splits.train, splits.test))
    arrays = {"x_train": train.inputs, "y_train": train.labels, "x_test": test.inputs, "y_test": test.labels}
    np.savez(path, **{name: array.numpy() for name, array in arrays.items()})
    return path


def side(python: str | Path, script: str, data: Path, augment: str, cpu: list[float]) -> float:
    """Milliseconds of wall time a step."""
    done = subprocess.run(
        [str(python), str(HERE / "sides" / script), str(data), augment],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{script} failed:\n{done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    cpu.append(found["cpu"] / found["steps"])
    return float(found["seconds"] / found["steps"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    python = measuring.environment("torchdistill", VERSION, wanted="torchdistill-base.txt", bare="torchdistill.txt")
    within = []
    with tempfile.TemporaryDirectory() as folder:
        data = archive(Path(folder) / "digits.npz")
        for name, augment in (("torchdistill", "shift"), ("torchdistill-plain", "none")):
            within.append(compare(name, python, data, augment, options.repeats))
    return 0 if all(within) else 1


def compare(name: str, python: Path, data: Path, augment: str, repeats: int) -> bool:
    """Both sides in turn; whether the ratio is within the limit."""
    cpu: dict[str, list[float]] = {"ours": [], "peer": []}
    found = measuring.alternate(
        {
            "ours": lambda: side(sys.executable, "tutelage_kd.py", data, augment, cpu["ours"]),
            "peer": lambda: side(python, "torchdistill_kd.py", data, augment, cpu["peer"]),
        },
        repeats,
    )
    about = (
        f"seconds a step of KD on the digits, augmentation: {augment}; peer: torchdistill {VERSION}, same models, data "
        "and schedule"
    )
    return measuring.compared(name, found["ours"], found["peer"], LIMIT, about=about, cpu=cpu)


if __name__ == "__main__":
    sys.exit(main())
