"""Class activation maps: without labels, by resolution, binary, of some classes; and what the features are worth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quick import QUICK, differences, quickly, read_student

from studies.base import DATA, IMAGES, RUNS, row
from tutelage.api import run
from tutelage.recipe.loading import load_recipe

LIMIT, EPOCHS = 400, 25
TURNED = ("labels", "maps alone, 2x2", "labels and maps, 2x2")


def study() -> dict[str, Any]:
    """The card's variants, and what a new last layer makes of the frozen students on turned images."""
    alone = {"name": "cat-kd", "ce_weight": 0.0, "cat_weight": 1.0, "normalize": False}
    variants: dict[str, Any] = {
        "labels": {"name": "kd", "alpha": 1.0},
        "maps alone, 1x1": {**alone, "resolution": 1},
        "maps alone, 2x2": alone,
        "maps alone, 4x4": {**alone, "resolution": 4},
        "maps alone, normalised": {**alone, "normalize": True, "cat_weight": 50.0},
        "maps alone, binary": {**alone, "binarize": True, "cat_weight": 50.0},
        "maps alone, binary, normalised": {**alone, "normalize": True, "binarize": True, "cat_weight": 50.0},
        "maps alone, likeliest 3 classes": {**alone, "classes": "top", "class_count": 3},
        "maps alone, other 7 classes": {**alone, "classes": "bottom", "class_count": 7},
        "labels and maps, 2x2": {**alone, "ce_weight": 1.0},
    }

    def read(name: str, report: Mapping[str, Any], folder: Path, seed: int) -> dict[str, float]:
        elsewhere = {"accuracy on turned digits": _elsewhere(folder, seed)} if name in TURNED else {}
        return read_student(report) | elsewhere

    found = quickly("cat-kd", variants, {"limit": LIMIT}, EPOCHS, read)
    turned = {key: values for key, values in found.items() if key[1] == "accuracy on turned digits"}
    return {
        "method": "cat-kd",
        "what": "Do maps of all classes teach a student, and does it learn them without labels?",
        "setup": (
            f"{QUICK.format(epochs=EPOCHS, images=f'{LIMIT} of them')} Turned digits: the student's body is frozen, "
            "and a new last layer is trained on 300 digits of two domains, upright and turned by 90 degrees, 10 epochs."
        ),
        "rows": [row(name, metric, values) for (name, metric), values in found.items()],
        "note": " ".join(
            (differences(found, "accuracy", "labels"), differences(turned, "accuracy on turned digits", "labels"))
        ),
    }


def _elsewhere(folder: Path, seed: int) -> float:
    student = {"model": "convnet", "depth": 2, "width": 6, "weights": str(folder / "model"), "freeze": ["blocks"]}
    mapping = {
        "name": "study-elsewhere",
        "method": "supervised",
        "student": student,
        "data": {"name": "domains", "of": DATA, "angles": [0, 90], "split_seed": None, "limit": 300},
        "train": {**IMAGES["train"], "epochs": 10, "optimizer": {"name": "adamw", "lr": 2e-2}},
        "measure": ["accuracy"],
        "seed": seed,
    }
    return float(run(load_recipe(mapping), root=RUNS).report["arrived"]["after"]["value"])
