"""An adapted teacher: how far it comes towards its student, and whether that helps the student."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studies.base import accuracies, collected, means, row

SEEDS = (0, 1, 2)
TRAIN = {"batch_size": 30, "optimizer": {"name": "adam", "lr": 3e-3}, "schedule": "constant"}
BASE: dict[str, Any] = {
    "name": "study-pesf-kd",
    "teacher": {"model": "convnet", "width": 8, "depth": 2, "weights": {"train": {**TRAIN, "epochs": 40}}},
    "student": {"model": "mlp", "hidden": [16]},
    "data": {"name": "digits", "limit": 300},
    "train": {**TRAIN, "epochs": 30},
    "measure": ["accuracy"],
    "baseline": False,
}


def read(report: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy, and what the method measured of the two sides."""
    kept = ("sharpness_gap", "plain_sharpness_gap", "adapted_kl", "adapted_accuracy")
    return {**accuracies(report), **{name: report["findings"][name] for name in kept}}


def study() -> dict[str, Any]:
    """The adapter against a teacher that stays."""
    own = {"name": "pesf-kd", "temperature": 4.0, "adapter_rate": 1.0}
    variants: dict[str, Any] = {"frozen teacher": {**own, "mode": "frozen"}, "adapter": own}
    found = collected(BASE, variants, SEEDS, read)
    rows = [row(*key, values) for key, values in found.items()]
    for metric in ("accuracy", "sharpness_gap", "adapted_kl"):
        pairs = zip(found["adapter", metric], found["frozen teacher", metric], strict=True)
        rows.append(row("adapter, over frozen", f"{metric} difference", [ours - plain for ours, plain in pairs]))
    gap, plain, apart, accuracy = (
        means(rows, metric) for metric in ("sharpness_gap", "plain_sharpness_gap", "adapted_kl", "accuracy")
    )
    closer = next(one for one in rows if one["metric"] == "sharpness_gap difference")
    return {
        "method": "pesf-kd",
        "what": "Does a small adapter bring the teacher to its student, and is the student better for it?",
        "setup": (
            "Digits, 300 training images and 359 test images; teacher convnet of width 8, 40 epochs; student "
            "64-16-10, 30 epochs, both of batch 30, Adam 3e-3, temperature 4, adapter and student at one rate. "
            "3 seeds, 95 % t-intervals. Gap of sharpness and divergence at temperature 1 on the test set, to the "
            "teacher as adapted; the plain gap is that to the teacher as it was."
        ),
        "rows": rows,
        "note": (
            f"The divergence goes from {apart['frozen teacher']:.3f} to {apart['adapter']:.3f}, and accuracy from "
            f"{accuracy['frozen teacher']:.3f} to {accuracy['adapter']:.3f}. The gap of sharpness goes from "
            f"{gap['frozen teacher']:.2f} to {gap['adapter']:.2f}, which three seeds "
            f"{'tell' if closer['high'] < 0 else 'cannot tell'} from none; to the teacher as it was it would be "
            f"{plain['adapter']:.2f}."
        ),
    }
