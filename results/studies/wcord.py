"""Contrast with a memory and transport inside the batch, alone and together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from quick import QUICK, differences, quick_teacher, quickly, read_student

from studies.base import row
from tutelage.data.digits import Digits
from tutelage.models.convnet import ConvNet
from tutelage.models.participant import Participant
from tutelage.models.weights import load_weights

EPOCHS = 20
ALIKE = "linear CKA with the teacher"


def study() -> dict[str, Any]:
    """Each term alone and both; the dual form; and how alike features are to the teacher's in the end."""
    small = {"name": "wcord", "negatives": 256, "proj_dim": 64}
    variants: dict[str, Any] = {
        "labels": {"name": "kd", "alpha": 1.0},
        "contrast": {**small, "local_weight": 0.0},
        "transport": {**small, "global_weight": 0.0},
        "both": small,
        "dual form": {**small, "global_form": "wasserstein", "critic": "bilinear"},
    }

    def read(name: str, report: Mapping[str, Any], folder: Path, seed: int) -> dict[str, float]:
        return read_student(report) | {ALIKE: _alike(folder / "model", seed)}

    found = quickly("wcord", variants, {"limit": 400}, EPOCHS, read)
    return {
        "method": "wcord",
        "what": "Does matching the distribution of features help?",
        "setup": (
            f"{QUICK.format(epochs=EPOCHS, images='400 of them')} Linear CKA is between the embeddings of student and "
            "teacher on the test images."
        ),
        "rows": [row(name, metric, values) for (name, metric), values in found.items()],
        "note": f"{differences(found, 'accuracy', 'labels')} {differences(found, ALIKE, 'labels')}",
    }


def _alike(source: Path, seed: int) -> float:
    splits = Digits(test_fraction=0.4, split_seed=None).load(seed)
    batch = splits.test.fetch(range(len(splits.test)))
    seen = []
    for width, weights in ((6, source), (16, quick_teacher(seed))):
        model = ConvNet(splits.info, width=width, depth=2)
        load_weights(model, weights)
        one = Participant("one", model, trainable=False, taps=["embedding"])(batch).embedding
        seen.append(one - one.mean(0))
    ours, theirs = seen
    norm = torch.linalg.matrix_norm
    return float(norm(ours.T @ theirs) ** 2 / (norm(ours.T @ ours) * norm(theirs.T @ theirs)))
