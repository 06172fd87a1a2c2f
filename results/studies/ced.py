"""CED: scores of the views that a student sees, of other views, fewer scores, and the label alone."""

from __future__ import annotations

from typing import Any

from studies.base import accuracies, collected, means, row

SEEDS = (0, 1, 2)
TAUGHT = {"train": {"epochs": 40, "batch_size": 64, "optimizer": {"name": "adamw", "lr": 3e-3}}}
MEMBERS = [{"model": "mlp", "hidden": hidden, "weights": TAUGHT} for hidden in ([64], [128], [64, 64])]
BASE: dict[str, Any] = {
    "name": "study-ced",
    "student": {"model": "mlp", "hidden": [16]},
    "data": {
        "name": "digits",
        "limit": 500,
        "augment": [{"name": "shift", "pixels": 2}, {"name": "cutout", "size": 3}],
    },
    "train": {"epochs": 60, "batch_size": 16, "optimizer": {"name": "adamw", "lr": 3e-3}},
    "measure": ["accuracy"],
}


def study() -> dict[str, Any]:
    """The same student of the same ensemble, with stores that differ."""
    stores: dict[str, dict[str, Any]] = {
        "consistent, 10 scores": {},
        "consistent, 3 scores": {"top_k": 3, "fill": "zero"},
        "old scores, new views": {"consistent": False},
        "old scores, new views, 3 scores": {"consistent": False, "top_k": 3, "fill": "zero"},
    }
    found: dict[tuple[str, str], list[float]] = {}
    for name, store in stores.items():
        teacher = {"model": "ensemble", "members": MEMBERS, "store": {"views": 10, **store}}
        method = {"name": "ced", "scores": "softmax"}
        # The first one's control stays: it sees the stored views too.
        found = {**collected({**BASE, "teacher": teacher}, {name: method}, SEEDS, accuracies), **found}
    rows = [row(*key, values) for key, values in found.items()]
    accuracy = means(rows, "accuracy")
    same, few, old, few_old = (accuracy[name] for name in stores)
    return {
        "method": "ced",
        "what": "Must scores be of the views that the student sees, and how many of them are needed?",
        "setup": (
            "Digits, 500 training images, shifted by up to 2 pixels, a square of 3 pixels blanked; teacher: mean "
            "probabilities of three perceptrons of 64 to 128 units; student: one of 16, without labels, 60 epochs of "
            "batch 16, AdamW 3e-3 with cosine; 10 views stored. 3 seeds, 95 % t-intervals; the control learns from "
            "labels."
        ),
        "rows": rows,
        "note": (
            f"Scores of the same views reach {same:.3f}, scores of other views {old:.3f}; three scores of ten "
            f"{few:.3f} and {few_old:.3f}."
        ),
    }
