"""Whether the contrast of categories makes a data-free student's features worth more elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studies.base import collected, means, row

SEEDS = (0, 1, 2)
BASE: dict[str, Any] = {
    "name": "study-cae-dfkd",
    "teacher": {
        "model": "convnet",
        "width": 8,
        "weights": {"train": {"epochs": 12, "batch_size": 64, "optimizer": {"name": "adam", "lr": 5e-3}}},
    },
    "student": {"model": "convnet", "width": 6},
    "data": "digits",
    "train": {"epochs": 7, "batch_size": 48, "optimizer": {"name": "adam", "lr": 5e-3}},
    "measure": ["accuracy"],
}
SHARED: dict[str, Any] = {
    "name": "cae-dfkd",
    "steps": 25,
    "embedding_width": 32,
    "hidden": 32,
    "generator_width": 12,
    "warmup": 1,
    "warmup_rounds": 4,
    "g_steps": 12,
    "synthesis_batch": 64,
    "pool_size": 2000,
    "bn": 1.0,
    "oh": 1.0,
    "probe": {"name": "merged", "of": "digits", "groups": [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]},
}


def read(report: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy on the teacher's task, and of the probe on odd and even."""
    probes = {r["features of"]: r["accuracy of a linear probe"]["value"] for r in report["findings"]["transfer"]}
    student = next(r for r in report["rows"] if r["role"] == "recipient")
    return {
        "accuracy": student["measures"]["quality"]["accuracy"]["value"],
        "probe of the student": probes["student"],
        "probe of the teacher": probes["teacher"],
        "probe of the pixels": probes["pixels"],
    }


def study() -> dict[str, Any]:
    """With and without the contrast."""
    variants = {"without contrast": {**SHARED, "cncl_weight": 0.0}, "with contrast": SHARED}
    found = collected(BASE, variants, SEEDS, read)
    rows = [row(name, metric, values) for (name, metric), values in found.items()]
    probe, accuracy = means(rows, "probe of the student"), means(rows, "accuracy")
    pixels = means(rows, "probe of the pixels")["with contrast"]
    return {
        "method": "cae-dfkd",
        "what": "Does the contrast of categories help a student that never saw an image?",
        "setup": (
            "Digits, convnets of width 8 and 6, random orthonormal class embeddings, 6 epochs of 25 steps after one of "
            "warm-up; a linear probe of the frozen features tells odd from even; 3 seeds. Intervals are 95 % "
            "t-intervals over seeds."
        ),
        "rows": rows,
        "note": (
            f"Probe {probe['without contrast']:.3f} without and {probe['with contrast']:.3f} with the contrast, "
            f"accuracy on the teacher's own classes {accuracy['without contrast']:.3f} and "
            f"{accuracy['with contrast']:.3f}; raw pixels give {pixels:.3f}. Text embeddings and other data sets were "
            "not tried."
        ),
    }
