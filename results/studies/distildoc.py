"""A panel of distillers on pages of documents: do the ranks hold in calibration, and on pages of another kind?"""

from __future__ import annotations

from typing import Any

from studies.base import across, table_rows

RECIPE: dict[str, Any] = {
    "method": {
        "name": "distildoc",
        "per_class": 15,
        "ood": [
            {"name": "documents", "count": 200, "size": 24, "fonts": ["DejaVuSerif"], "noise": 0.3, "tilt": 6.0}
            | {"invert": 0.2, "draw_seed": 1, "test_fraction": 0.8}
        ],
    },
    "teacher": {"model": "resnet", "depth": 8, "width": 8, "weights": {"train": {"epochs": 15}}},
    "student": {"model": "resnet", "depth": 8, "width": 3},
    "data": {"name": "documents", "count": 480, "size": 24, "noise": 0.25, "test_fraction": 0.4, "split_seed": None},
    "train": {"epochs": 40, "batch_size": 20, "optimizer": {"name": "adamw", "lr": 5e-3}, "schedule": "cosine"},
    "measure": ["accuracy"],
}


def study() -> dict[str, Any]:
    """Accuracy, calibration error and risk of each distiller, here and on shifted pages."""
    reports = across(RECIPE)
    rows = table_rows(reports, "panel", ("distiller",), ("accuracy", "gain", "ece", "aurc"))
    shifted = table_rows(reports, "shifted", ("distiller",), ("accuracy", "ece", "aurc", "drop"))
    rows += [{**one, "name": f"{one['name']}, shifted"} for one in shifted]
    mean = {(r["name"], r["metric"]): r["mean"] for r in rows}
    names = [r["name"] for r in rows if r["metric"] == "gain" and r["name"] != "teacher"]
    orders = [sorted(names, key=lambda n: -mean[f"{n}{tail}", "accuracy"]) for tail in ("", ", shifted")]
    worst = max(names, key=lambda n: mean[n, "ece"])
    return {
        "method": "distildoc",
        "what": "Do distillers rank alike in accuracy, in calibration, and on pages of another kind?",
        "setup": "Drawn pages of 8 kinds, 24 pixels, divided anew for each of 3 seeds: 240 training pages for the "
        "teacher (resnet 8, width 8), 15 of each kind for students (width 3, 40 epochs), 192 test pages; shifted: 160 "
        "pages in another font, noisier, tilted, a fifth of them dark. Calibration error over bins of equal numbers by "
        "their upper edge. Intervals are 95 % t-intervals over seeds.",
        "rows": rows,
        "note": f"By accuracy: {', '.join(orders[0])}; on shifted pages: {', '.join(orders[1])}. Largest calibration "
        f"error: {worst}.",
    }
