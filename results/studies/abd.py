"""Whether a backdoor comes through patches of a photograph, and what the defences leave of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studies.base import collected, means, row

SEEDS = (0, 1, 2)
BASE: dict[str, Any] = {
    "name": "study-abd",
    "teacher": {
        "model": "convnet",
        "width": 8,
        "weights": {"train": {"epochs": 15, "batch_size": 64, "optimizer": {"name": "adam", "lr": 5e-3}}},
    },
    "student": {"model": "convnet", "width": 8},
    "data": {"name": "poisoned", "of": "digits", "trigger": "square", "size": 2},
    "train": {"epochs": 8, "batch_size": 64, "optimizer": {"name": "adam", "lr": 5e-3}},
    "measure": ["accuracy", "backdoor"],
}
VARIANTS: dict[str, dict[str, Any]] = {
    "no defence": {"sv_coef": 0.0},
    "shuffling vaccine": {},
    "vaccine and self-retrospection": {"sr": True, "sr_epochs": 3},
}


def read(report: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy and attack success of student and teacher."""
    found = {}
    for name, role in (("student", "recipient"), ("teacher", "source")):
        measures = next(r for r in report["rows"] if r["role"] == role)["measures"]
        found[f"accuracy of the {name}"] = measures["quality"]["accuracy"]["value"]
        found[f"backdoor success in the {name}"] = measures["leakage"]["backdoor_success"]["value"]
    return found


def study() -> dict[str, Any]:
    """A poisoned teacher, students with and without defences."""
    variants = {name: {"name": "abd", "inputs": "patches", "steps": 25, **keys} for name, keys in VARIANTS.items()}
    found = collected(BASE, variants, SEEDS, read)
    rows = [row(name, metric, values) for (name, metric), values in found.items()]
    right, opened = means(rows, "accuracy of the student"), means(rows, "backdoor success in the student")
    said = "; ".join(f"{name}: accuracy {right[name]:.3f}, backdoor {opened[name]:.3f}" for name in right)
    teacher = means(rows, "backdoor success in the teacher")["no defence"]
    return {
        "method": "abd",
        "what": "Does a backdoor come through images of something else, and do the defences stop it?",
        "setup": (
            "Digits, a tenth of the training images with a bright square of 2 x 2 in the corner and the label 0; "
            "convnets of width 8; students learn 200 steps of 64 patches of one photograph, 75 more with "
            "self-retrospection; 3 seeds. Backdoor success is the share of marked test images of other classes that "
            "are called 0. Intervals are 95 % t-intervals over seeds."
        ),
        "rows": rows,
        "note": (
            f"The teacher's backdoor opens in {teacher:.3f}. {said}. A student that names 0 too often also counts as "
            "open, so the number must be read with the accuracy."
        ),
    }
