"""What the losses of attention do for a small ternary transformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studies.base import collected, means, row

MODEL = {"model": "vit", "patch": [1, 8], "dim": 32, "depth": 2, "heads": 4}
SEEDS = (0, 1, 2)
BASE: dict[str, Any] = {
    "name": "study-qat-kd",
    "teacher": {**MODEL, "weights": {"train": {"epochs": 25, "batch_size": 50, "optimizer": "adam"}}},
    "student": MODEL,
    "data": "digits",
    "train": {"epochs": 3, "batch_size": 50, "optimizer": {"name": "adam", "lr": 1e-3}},
    "measure": ["accuracy", "agreement"],
}
VARIANTS: dict[str, dict[str, Any]] = {
    "no attention loss": {"map_coeff": 0.0},
    "scores": {"map_coeff": 0.0, "score_coeff": 1.0},
    "maps": {"map_coeff": 1.0},
    "outputs": {"map_coeff": 0.0, "output_coeff": 1.0},
}


def read(report: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy, and attention averaged over blocks."""
    blocks = report["findings"]["attention"]
    student = next(r for r in report["rows"] if r["role"] == "recipient")
    found = {"accuracy": student["measures"]["quality"]["accuracy"]["value"]}
    found |= {key: sum(b[key] for b in blocks) / len(blocks) for key in ("map KL", "output MSE")}
    found["packed share of the teacher's bytes"] = (
        report["findings"]["packed bytes"] / report["findings"]["bytes of the teacher"]
    )
    return found


def study() -> dict[str, Any]:
    """Each loss of attention alone, beside prediction and hidden states."""
    variants = {name: {"name": "qat-kd", "act_bits": None, **keys} for name, keys in VARIANTS.items()}
    found = collected(BASE, variants, SEEDS, read)
    rows = [row(name, metric, values) for (name, metric), values in found.items()]
    maps, outputs = means(rows, "map KL"), means(rows, "output MSE")
    return {
        "method": "qat-kd",
        "what": "Do losses of attention bring a ternary encoder's attention nearer to its teacher's?",
        "setup": (
            "Digits, transformer of 2 blocks, 4 heads and width 32 that reads 8 tokens of 8 pixels; ternary weights, "
            "activations of full precision, 78 steps of Adam at 1e-3 from the teacher's weights; 3 seeds of "
            "initialisation and order. Intervals are 95 % t-intervals over seeds."
        ),
        "rows": rows,
        "note": (
            f"Divergence of maps {maps['no attention loss']:.3f} without a loss of attention, {maps['scores']:.3f} "
            f"with scores, {maps['maps']:.3f} with maps; squared distance of outputs "
            f"{outputs['no attention loss']:.3f} without, {outputs['outputs']:.3f} with outputs. The paper's gap "
            "between scores and maps is about large encoders; three seeds of a small one cannot decide it."
        ),
    }
