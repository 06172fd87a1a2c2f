"""HARD: shifts that a convolutional teacher does not mind, brought to a perceptron that never saw one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad

from studies.base import RUNS, row
from tutelage.api import run
from tutelage.data.digits import Digits
from tutelage.models.weights import load_model

SEEDS = (0, 1, 2)
PIXELS = 3


def study() -> dict[str, Any]:
    """Plain distillation, learned shifts, and shifts given by hand, with every seed."""
    splits = Digits().load(0)
    train, test = splits.train.fetch(range(600)), splits.test.fetch(range(len(splits.test)))
    RUNS.mkdir(parents=True, exist_ok=True)
    canvas = RUNS / "digits-on-canvas.npz"
    np.savez(canvas, x=pad(train.inputs, (PIXELS,) * 4).numpy(), y=train.labels.numpy())
    data = {"name": "npz", "path": str(canvas)}
    shifts = {**data, "augment": [{"name": "shift", "pixels": PIXELS}]}
    centred = pad(test.inputs, (PIXELS,) * 4)
    drawn = torch.randint(-PIXELS, PIXELS + 1, (len(centred), 2), generator=torch.Generator().manual_seed(0))
    shifted = torch.stack([image.roll(tuple(by), (1, 2)) for image, by in zip(centred, drawn.tolist(), strict=True)])
    net = {"model": "convnet", "width": 8}
    found: dict[tuple[str, str], list[float]] = {}

    def note(name: str, folder: Path) -> None:
        model = load_model(folder)
        with torch.no_grad():
            for metric, images in (("accuracy, centred", centred), ("accuracy, shifted", shifted)):
                right = (model(images).argmax(-1) == test.labels).float().mean()
                found.setdefault((name, metric), []).append(float(right))

    base = {"measure": ["accuracy"], "baseline": False}
    fast = {"epochs": 40, "batch_size": 32, "optimizer": {"name": "adam", "lr": 3e-3}, "schedule": "constant"}
    for seed in SEEDS:
        slow = {"epochs": 30, "batch_size": 32, "optimizer": {"name": "adamw", "lr": 3e-3}}
        taught = run(
            {"method": "supervised", "student": net, "data": shifts, "train": slow, "seed": seed, **base}, root=RUNS
        )
        note("teacher", taught.folder)
        sampler = {"name": "hard", "augmentor": [{"name": "translate", "pixels": PIXELS}]}
        plain = {"name": "kd", "alpha": 0.0, "temperature": 4.0}
        variants: dict[str, tuple[Any, Any]] = {
            "kd": (plain, data),
            "hard": ({"name": "hard-augmentations", "sampler": sampler}, data),
            "kd, shifts given by hand": (plain, shifts),
        }
        for name, (method, own) in variants.items():
            finished = run(
                {
                    "method": method,
                    "teacher": {**net, "weights": str(taught.folder)},
                    "student": {"model": "mlp", "hidden": [64]},
                    "data": own,
                    "train": fast,
                    "seed": seed,
                    **base,
                },
                root=RUNS,
            )
            note(name, finished.folder)
            for one in finished.report["findings"].get("spreads", ()):
                found.setdefault((name, "learned spread"), []).append(one["spread"])
    mean = {key: sum(values) / len(values) for key, values in found.items()}
    return {
        "method": "hard-augmentations",
        "what": "Does a student learn to bear shifts from a teacher that does, without being shown one by hand?",
        "setup": (
            "Digits in the middle of 14x14 pixels, 420 training images, 3 seeds; teacher convnet width 8 trained with "
            "shifts of up to 3 pixels; student mlp 64, 40 epochs, temperature 4; tested on 359 images, centred and "
            "shifted by up to 3 pixels either way."
        ),
        "rows": [row(name, metric, values) for (name, metric), values in found.items()],
        "note": (
            f"On shifted images {100 * mean['kd', 'accuracy, shifted']:.0f} % without, "
            f"{100 * mean['hard', 'accuracy, shifted']:.0f} % with learned shifts, and "
            f"{100 * mean['kd, shifts given by hand', 'accuracy, shifted']:.0f} % with shifts given by hand; "
            f"the learned spread goes from 0.69 to {mean['hard', 'learned spread']:.2f}."
        ),
    }
