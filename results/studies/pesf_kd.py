"""An adapted teacher: how far it comes towards its student, and whether that helps the student."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studies.base import accuracies, collected, means, row

SEEDS = (0, 1, 2)
TRAIN = {"epochs": 30, "batch_size": 30, "optimizer": {"name": "adamw", "lr": 3e-3}, "schedule": "cosine"}
BASE: dict[str, Any] = {
    "name": "study-pesf-kd",
    "teacher": {"model": "convnet", "width": 8, "depth": 2, "weights": {"train": TRAIN}},
    "student": {"model": "mlp", "hidden": [16]},
    "data": {"name": "digits", "limit": 300},
    "train": TRAIN,
    "measure": ["accuracy"],
}


def read(report: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy, and what the method measured of the two sides."""
    kept = ("sharpness_gap", "adapted_kl", "adapted_accuracy")
    return {**accuracies(report), **{name: report["findings"][name] for name in kept}}


def study() -> dict[str, Any]:
    """The adapter against a teacher that stays and one that is trained whole."""
    own = {"name": "pesf-kd", "temperature": 4.0, "adapter_rate": 1.0}
    variants: dict[str, Any] = {
        "frozen teacher": {**own, "mode": "frozen"},
        "adapter": own,
        "adapter, corrected labels": {**own, "correct_labels": True},
        "online teacher": {**own, "mode": "online"},
    }
    rows = [row(*key, values) for key, values in collected(BASE, variants, SEEDS, read).items()]
    gap, apart, accuracy = (means(rows, metric) for metric in ("sharpness_gap", "adapted_kl", "accuracy"))
    return {
        "method": "pesf-kd",
        "what": "Does a small adapter bring the teacher to its student, and is the student better for it?",
        "setup": (
            "Digits, 300 training images and 359 test images; teacher convnet of width 8, student 64-16-10, 30 epochs "
            "of batch 30 each, AdamW 3e-3 with cosine, temperature 4, adapter and student at one rate. 3 seeds, 95 % "
            "t-intervals. Gap of sharpness and divergence at temperature 1 on the test set, to the teacher as adapted."
        ),
        "rows": rows,
        "note": (
            f"The gap goes from {gap['frozen teacher']:.2f} to {gap['adapter']:.2f} and the divergence from "
            f"{apart['frozen teacher']:.3f} to {apart['adapter']:.3f}; accuracy from {accuracy['frozen teacher']:.3f} "
            f"to {accuracy['adapter']:.3f}, online {accuracy['online teacher']:.3f}."
        ),
    }
