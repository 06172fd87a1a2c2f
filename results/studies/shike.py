"""What rare classes gain from experts, and from balanced heads at the end."""

from __future__ import annotations

from typing import Any

from studies.base import DATA, RUNS, row
from tutelage.api import run

SEEDS = (0, 1, 2)
SGD = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
VARIANTS: dict[str, dict[str, Any]] = {
    "shike": {},
    "experts on labels alone": {"hns_weight": 0.0, "mutual_weight": 0.0},
    "heads anew": {"rt_init": "fresh"},
}


def study() -> dict[str, Any]:
    """Each part left out, after the first stage and after the second."""
    found: dict[tuple[str, str], list[float]] = {}
    for seed in SEEDS:
        for name, method in VARIANTS.items():
            both = {"rt_init": "copy", "balanced_share": 0.286, "balanced_lr_scale": 3.0, "many": 60, "few": 15}
            recipe = {
                "method": {"name": "shike", **both, **method},
                "student": {"model": "expert-resnet", "depth": 8, "width": 8, "scale": 16.0},
                "data": {**DATA, "imbalance": 30.0},
                "train": {"epochs": 28, "batch_size": 64, "optimizer": SGD, "schedule": "constant"},
                "measure": ["accuracy"],
                "seed": seed,
                "baseline": False,
            }
            for one in run(recipe, root=RUNS).report["findings"]["accuracy_by_class_size"]:
                if one["experts"] == "together":
                    for group in ("all", "many", "few"):
                        found.setdefault((f"{name}, after {one['stage']}", group), []).append(one[group])
    for name in VARIANTS:
        for group in ("all", "many", "few"):
            pairs = zip(found[f"{name}, after balance", group], found[f"{name}, after experts", group], strict=True)
            found[name, f"second stage: {group}"] = [after - before for after, before in pairs]
    rows = [row(name, metric, values) for (name, metric), values in found.items()]
    means = {(r["name"], r["metric"]): r["mean"] for r in rows}
    ours, plain = (means[f"{name}, after balance", "all"] for name in ("shike", "experts on labels alone"))
    return {
        "method": "shike",
        "what": "What do rare classes gain from experts that teach each other, and from balanced heads?",
        "setup": (
            "Digits, divided anew for each of 3 seeds, 719 test images; a long tail of training images, 30 of the "
            "first class for each of the last; three experts on a ResNet of depth 8, width 8, scale 16; 28 epochs of "
            "SGD, lr 0.1, batch 64, the last 8 of them for the heads, at 3 times the rate. 'many' are classes of more "
            "than 60 training images, 'few' of fewer than 15. Intervals are 95 % t-intervals over seeds."
        ),
        "rows": rows,
        "note": (
            f"The second stage changes rare classes by {means['shike', 'second stage: few']:+.3f} and frequent ones by "
            f"{means['shike', 'second stage: many']:+.3f}. All classes at the end: {ours:.3f}, and {plain:.3f} for "
            "experts that never taught each other."
        ),
    }
