"""Who is promoted, what the smallest student has of it, and how far a weak pivot comes."""

from __future__ import annotations

from typing import Any

from studies.base import DATA, RUNS, row
from tutelage.api import run

SEEDS = (0, 1, 2)
ADAM = {"batch_size": 20, "optimizer": {"name": "adam", "lr": 3e-3}, "schedule": "constant"}
VARIANTS: dict[str, tuple[int, dict[str, Any]]] = {
    "orc": (20, {}),
    "no roles (independent distillation)": (20, {"intensive": "off", "private": False, "role_change": "none"}),
    "no intensive teaching": (20, {"intensive": "off"}),
    "weak pivot": (1, {"pivot_lr_scale": 1.0}),
}


def study() -> dict[str, Any]:
    """Three students of width 32, 24 and 16, with all roles and without."""
    found: dict[tuple[str, str], list[float]] = {}
    for seed in SEEDS:
        for name, (epochs, method) in VARIANTS.items():
            recipe = {
                "method": {"name": "orc", "temperature": 2.0, **method},
                "teacher": {"model": "mlp", "hidden": [128], "weights": {"train": {**ADAM, "epochs": epochs}}},
                "assistants": [{"model": "mlp", "hidden": [32]}, {"model": "mlp", "hidden": [24]}],
                "student": {"model": "mlp", "hidden": [16]},
                "data": {**DATA, "limit": 200},
                "train": {**ADAM, "epochs": 30},
                "measure": ["accuracy"],
                "seed": seed,
                "baseline": name == "orc",
            }
            report = run(recipe, root=RUNS).report
            for one in report["findings"]["promotions"]:
                found.setdefault((name, f"share of promotions: {one['network']}"), []).append(one["share"])
            labels = {"student": name, "student without transfer": "control (labels alone)"}
            for one in report["rows"]:
                value = one["measures"]["quality"]["accuracy"]["value"]
                if one["name"] in labels:
                    found.setdefault((labels[one["name"]], "accuracy"), []).append(value)
                elif one["name"].startswith("teacher"):
                    when = "after" if one["name"] != "teacher" else "before"
                    found.setdefault((name, f"pivot {when}"), []).append(value)
    rows = [row(name, metric, values) for (name, metric), values in found.items()]
    means = {(r["name"], r["metric"]): r["mean"] for r in rows}
    order = [means["orc", f"share of promotions: {one}"] for one in ("assistants-1", "assistants-2", "student")]
    before, after = (means["weak pivot", f"pivot {when}"] for when in ("before", "after"))
    return {
        "method": "orc",
        "what": "Do promotions follow strength, does the smallest student gain, and does a weak pivot rise?",
        "setup": (
            "Digits, divided anew for each of 3 seeds, 719 test images, 200 training images; pivot MLP of 128 after 20 "
            "epochs (weak: 1 epoch, and at the students' learning rate), students MLP of 32, 24 and 16, of whom the "
            "last is handed on; 30 epochs of Adam 3e-3, batch 20, T = 2, beta = 0.5. Intervals are 95 % t-intervals "
            "over seeds."
        ),
        "rows": rows,
        "note": (
            f"Promotions, largest first: {order[0]:.2f}, {order[1]:.2f}, {order[2]:.2f}. The smallest student: "
            f"{means['orc', 'accuracy']:.3f}, independent distillation "
            f"{means['no roles (independent distillation)', 'accuracy']:.3f}, labels alone "
            f"{means['control (labels alone)', 'accuracy']:.3f}. A weak pivot goes from {before:.3f} to {after:.3f}."
        ),
    }
