"""Whether replay, and the virtual step, keep a data-free student from forgetting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studies.base import collected, means, row

SEEDS = (0, 1, 2)
BASE: dict[str, Any] = {
    "name": "study-retain-acquire",
    "teacher": {
        "model": "mlp",
        "hidden": [64],
        "weights": {"train": {"epochs": 15, "batch_size": 32, "optimizer": {"name": "adam", "lr": 5e-3}}},
    },
    "student": {"model": "mlp", "hidden": [32]},
    "data": "digits",
    "train": {"epochs": 12, "batch_size": 64, "optimizer": {"name": "adam", "lr": 5e-3}, "schedule": "constant"},
    "measure": ["accuracy"],
}
SHARED: dict[str, Any] = {
    "steps": 30,
    "latent": 16,
    "generator_width": 16,
    "generator_lr": 1e-2,
    "student_steps": 2,
    "push_every": 1,
    "inner_lr": 0.1,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "no replay": {"memory": "none"},
    "replay": {"meta": False},
    "replay and virtual step": {},
    "as released (detached)": {"virtual_start": "released"},
}


def read(report: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy at the end, and how it moved."""
    (epochs,) = report["findings"]["accuracy over epochs"]
    student = next(r for r in report["rows"] if r["role"] == "recipient")
    return {
        "test accuracy": student["measures"]["quality"]["accuracy"]["value"],
        "validation accuracy, later half": epochs["mean of the later half"],
        "its deviation over epochs": epochs["its standard deviation"],
        "largest fall in one epoch": epochs["largest fall in one epoch"],
    }


def study() -> dict[str, Any]:
    """The ablations of the paper on digits, without any data."""
    variants = {name: {"name": "retain-acquire", **SHARED, **keys} for name, keys in VARIANTS.items()}
    found = collected(BASE, variants, SEEDS, read)
    rows = [row(name, metric, values) for (name, metric), values in found.items()]
    end, moved = means(rows, "test accuracy"), means(rows, "its deviation over epochs")
    fall = means(rows, "largest fall in one epoch")
    said = "; ".join(
        f"{name}: {end[name]:.3f} at the end, deviation {moved[name]:.3f}, largest fall {fall[name]:.3f}"
        for name in end
    )
    return {
        "method": "retain-acquire",
        "what": "Do replay and a virtual step make a data-free student steadier?",
        "setup": (
            "Digits, teacher a layer of 64 units, student of 32; 12 epochs of 30 steps on 64 generated images, the "
            "learning rate constant; 3 seeds. Accuracies of epochs are on the validation split, which training never "
            "uses. Intervals are 95 % t-intervals over seeds."
        ),
        "rows": rows,
        "note": f"{said}. Small and short, with three seeds: a direction at most.",
    }
