"""Relations between patches on a long tail, where rare classes may borrow from frequent ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quick import QUICK, differences, quickly, read_student

from studies.base import row

EPOCHS = 30
RARE = "accuracy on classes with fewer than 20 images"


def study() -> dict[str, Any]:
    """Labels, distillation, and both with relations; over all classes and over those that training hardly saw."""
    nothing = {"name": "trg", "inner_weight": 0.0, "local_weight": 0.0, "global_weight": 0.0}
    variants: dict[str, Any] = {
        "labels": {**nothing, "logit_weight": 0.0},
        "labels and relations": {"name": "trg", "logit_weight": 0.0},
        "kd": {**nothing, "temperature": 2.0},
        "kd and relations": {"name": "trg", "temperature": 2.0},
    }

    def read(name: str, report: Mapping[str, Any], folder: Path, seed: int) -> dict[str, float]:
        table = report["findings"]["accuracy by how often a class was seen"]
        few = next(one for one in table if one["images a class"].startswith("few"))
        return read_student(report) | {RARE: few["student"]}

    found = quickly("trg", variants, {"imbalance": 13.0, "limit": 303}, EPOCHS, read)
    return {
        "method": "trg",
        "what": "Do relations between patches help where training hardly saw a class?",
        "setup": QUICK.format(
            epochs=EPOCHS, images="a long tail, 13 times more images of the first class than of the last"
        ),
        "rows": [row(name, metric, values) for (name, metric), values in found.items()],
        "note": f"{differences(found, 'accuracy', 'kd')} {differences(found, RARE, 'kd')}",
    }
