"""Feature norm and direction: what it does to embeddings, and to accuracy, beside three partners."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studies.base import accuracies, collected, means, row

SEEDS = (0, 1, 2)
TRAIN = {"epochs": 40, "batch_size": 150, "optimizer": {"name": "adam", "lr": 5e-3}, "schedule": "constant"}
BASE: dict[str, Any] = {
    "name": "study-nd",
    "teacher": {"model": "mlp", "hidden": [128, 64], "weights": {"train": TRAIN}},
    "student": {"model": "mlp", "hidden": [16, 64]},
    "data": {"name": "digits", "limit": 900},
    "train": TRAIN,
    "measure": ["accuracy"],
}


def read(report: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy, and what the method measured of its embeddings."""
    return {**accuracies(report), **report["findings"]}


def study() -> dict[str, Any]:
    """Each partner with and without; each half of the term alone."""
    variants: dict[str, Any] = {
        "kd": {"name": "nd", "nd_weight": 0.0},
        "KD++": {"name": "nd", "nd_weight": 2.0},
        "KD++, direction alone": {"name": "nd", "nd_weight": 2.0, "variant": "direction"},
        "KD++, norm alone": {"name": "nd", "nd_weight": 2.0, "variant": "norm"},
        "dkd": {"name": "nd", "nd_weight": 0.0, "partner": "dkd"},
        "DKD++": {"name": "nd", "nd_weight": 2.0, "partner": "dkd"},
        "dist": {"name": "nd", "nd_weight": 0.0, "partner": "dist"},
        "DIST++": {"name": "nd", "nd_weight": 2.0, "partner": "dist"},
    }
    rows = [row(*key, values) for key, values in collected(BASE, variants, SEEDS, read).items()]
    ratio, cosine, accuracy = (means(rows, metric) for metric in ("norm_ratio", "cosine_to_class_mean", "accuracy"))
    return {
        "method": "nd",
        "what": "Do embeddings grow and turn to the teacher's class means, and does that help?",
        "setup": (
            "Digits, 900 training images; teacher 64-128-64-10, student 64-16-64-10, 40 epochs of batch 150, Adam "
            "5e-3, partner at temperature 4 and warm after 20 epochs; weight 2 of the norm and direction. 3 seeds, "
            "95 % t-intervals. Ratio of lengths and cosine on the test set."
        ),
        "rows": rows,
        "note": (
            f"With it, lengths go from {ratio['kd']:.2f} to {ratio['KD++']:.2f} of the teacher's and cosines from "
            f"{cosine['kd']:.2f} to {cosine['KD++']:.2f}; accuracy from {accuracy['kd']:.3f} to {accuracy['KD++']:.3f} "
            f"(dkd {accuracy['dkd']:.3f} to {accuracy['DKD++']:.3f}, dist {accuracy['dist']:.3f} to "
            f"{accuracy['DIST++']:.3f})."
        ),
    }
