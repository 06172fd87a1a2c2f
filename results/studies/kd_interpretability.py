"""Whether a teacher's soft labels make more units detect concepts than labels, smooth ones or a shuffled teacher."""

from __future__ import annotations

from typing import Any

from studies.base import across, table_rows

RECIPE: dict[str, Any] = {
    "method": {
        "name": "kd-interpretability",
        "layer": "blocks",
        "controls": ["smoothing", "permuted", "untrained"],
    },
    "teacher": {"model": "convnet", "width": 16, "depth": 2, "weights": {"train": {"epochs": 20}}},
    "student": {"model": "convnet", "width": 8, "depth": 2},
    "data": {"name": "shapes", "count": 1200, "test_fraction": 0.4, "split_seed": None},
    "train": {"epochs": 20, "batch_size": 50, "optimizer": {"name": "adam", "lr": 5e-3}, "schedule": "cosine"},
    "measure": ["accuracy"],
}


def study() -> dict[str, Any]:
    """Detectors, unique concepts and accuracy of each network, and how alike it finds the classes."""
    reports = across(RECIPE)
    rows = table_rows(reports, "dissection", ("network",), ("accuracy", "detectors", "unique", "detectors_object"))
    rows += table_rows(reports, "class_similarity", ("network",), ("kl", "correlation"))
    rows += table_rows(reports, "saliency", ("network",), ("precision", "recall", "edge_alignment"))
    mean = {(r["name"], r["metric"]): r["mean"] for r in rows}
    names = ("teacher", "student", "labels", "smoothing", "permuted", "untrained")
    said = "; ".join(f"{n} {mean[n, 'detectors']:.1f} at accuracy {mean[n, 'accuracy']:.3f}" for n in names)
    return {
        "method": "kd-interpretability",
        "what": "Do a teacher's soft labels make more units detectors of a concept?",
        "setup": "Figures on noise, 24 pixels, in 8 classes, divided anew for each of 3 seeds: 600 training and 480 "
        "test images; convnets of two stages, teacher width 16 (32 units probed), student width 8 (16 units), 20 "
        "epochs; 400 other figures probe the last layer, quantile 0.005, overlap 0.05. Intervals are 95 % t-intervals "
        "over seeds.",
        "rows": rows,
        "note": f"Detectors: {said}.",
    }
