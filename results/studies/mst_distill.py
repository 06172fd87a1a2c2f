"""MST-Distill: half a digit learned from teachers of both halves and of the other half."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studies.base import accuracies, collected, means, row

SEEDS = (0, 1, 2)
TAUGHT = {"train": {"epochs": 30, "batch_size": 64, "optimizer": {"name": "adamw", "lr": 3e-3}}}
BASE: dict[str, Any] = {
    "name": "study-mst-distill",
    "teacher": {"model": "mlp", "hidden": [48, 48], "weights": TAUGHT},
    "auxiliary": {"model": "mlp", "hidden": [48, 48], "channels": [1], "weights": TAUGHT},
    "student": {"model": "mlp", "hidden": [24], "channels": [0]},
    "data": {"name": "halves", "of": "digits", "limit": 300},
    "train": {"epochs": 30, "batch_size": 64, "optimizer": {"name": "adamw", "lr": 2e-3}},
    "measure": ["accuracy"],
}


def read(report: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy, and the share of samples that the most asked teacher got."""
    return {**accuracies(report), "largest share": max(one["share"] for one in report["findings"]["specialists"])}


def study() -> dict[str, Any]:
    """The whole, without the teachers' term, and without the balance."""
    own = {"name": "mst-distill", "cotrain_epochs": 10}
    variants = {
        "mst-distill": own,
        "labels alone in stage 3": {**own, "w_kl": 0.0},
        "without balance": {**own, "w_lb": 0.0},
    }
    rows = [row(*key, values) for key, values in collected(BASE, variants, SEEDS, read).items()]
    accuracy, share = means(rows, "accuracy"), means(rows, "largest share")
    return {
        "method": "mst-distill",
        "what": "Does a student of one half of a digit gain from teachers of both halves and of the other one?",
        "setup": (
            "Digits in two halves, 300 training images; teacher 48-48 on both, auxiliary 48-48 on the right, student "
            "24 on the left; 10 epochs of co-training, 1 of masks, 30 of routing, batch 64, AdamW 2e-3 with cosine. 3 "
            "seeds, 95 % t-intervals; the control is the student on labels for 30 epochs."
        ),
        "rows": rows,
        "note": (
            f"{accuracy['mst-distill']:.3f} with the teachers' term, {accuracy['labels alone in stage 3']:.3f} "
            f"without; of four teachers the most asked one gets {share['mst-distill']:.2f} of the samples with balance "
            f"and {share['without balance']:.2f} without."
        ),
    }
