"""MIX-KD: teachers with and without mixup, students on plain, mixed and partly mixed batches, spread or temperature."""

from __future__ import annotations

from typing import Any

import torch

from studies.base import RUNS, row
from tutelage.api import run
from tutelage.data.digits import Digits
from tutelage.losses import entropy
from tutelage.models.weights import load_model

SEEDS = (0, 1, 2)


def study() -> dict[str, Any]:
    """Every variant with every seed."""
    test = Digits().load(0).test
    images = test.fetch(range(len(test))).inputs
    base = {"measure": ["accuracy"], "baseline": False}
    adam = {"name": "adamw", "lr": 3e-3}
    found: dict[tuple[str, str], list[float]] = {}
    for seed in SEEDS:
        for kind, augment in (("plain teacher", []), ("mixup teacher", ["mixup"])):
            net = {"model": "convnet", "width": 8}
            taught = run(
                {
                    "method": "supervised",
                    "student": net,
                    "data": {"name": "digits", "augment": augment},
                    "train": {"epochs": 20, "batch_size": 64, "optimizer": adam},
                    "seed": seed,
                    **base,
                },
                root=RUNS,
            )
            with torch.no_grad():
                logits = load_model(taught.folder)(images)
            found.setdefault((kind, "entropy"), []).append(float(entropy(logits).mean()))
            found.setdefault((kind, "spread of logits"), []).append(float(logits.std(-1).mean()))
            accuracy = taught.report["rows"][0]["measures"]["quality"]["accuracy"]["value"]
            found.setdefault((kind, "accuracy"), []).append(accuracy)
            for scale in ("temperature", "std"):
                for mix in ("none", "full", "partial"):
                    finished = run(
                        {
                            "method": {"name": "mix-kd", "mix": mix, "scale": scale},
                            "teacher": {**net, "weights": str(taught.folder)},
                            "student": {"model": "mlp", "hidden": [64, 16]},
                            "data": {"name": "digits", "limit": 200},
                            "train": {"epochs": 30, "batch_size": 40, "optimizer": adam},
                            "seed": seed,
                            **base,
                        },
                        root=RUNS,
                    )
                    recipient = next(one for one in finished.report["rows"] if one["role"] == "recipient")
                    name = f"{kind}, {'temperature 4' if scale == 'temperature' else 'spread'}, {mix}"
                    value = recipient["measures"]["quality"]["accuracy"]["value"]
                    found.setdefault((name, "accuracy"), []).append(value)
    mean = {name: 100 * sum(values) / len(values) for (name, metric), values in found.items() if metric == "accuracy"}
    said = []
    for kind in ("plain teacher", "mixup teacher"):
        cost = [
            mean[f"{kind}, {scale}, none"] - mean[f"{kind}, {scale}, full"] for scale in ("temperature 4", "spread")
        ]
        gain = mean[f"{kind}, spread, partial"] - mean[f"{kind}, temperature 4, partial"]
        said.append(
            f"{kind}: full mixing costs {cost[0]:.1f} points at temperature 4 and {cost[1]:.1f} in units of the "
            f"spread; with a tenth mixed, the spread gives {gain:+.1f} points against temperature 4"
        )
    return {
        "method": "mix-kd",
        "what": "Does a teacher trained with mixup teach worse, and does the spread of logits make up for it?",
        "setup": (
            "Digits, 3 seeds, 359 test images; teachers convnet width 8 on all training images, 20 epochs, with and "
            "without mixup; student mlp 64-16 on 200 images, 30 epochs, batch 40; gamma 0.1, alpha 0.9."
        ),
        "rows": [row(name, metric, values) for (name, metric), values in found.items()],
        "note": "; ".join(said) + ". Means of three seeds; the intervals say how much of it may be chance.",
    }
