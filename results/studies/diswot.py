"""Whether scores of untrained networks know which student will learn best."""

from __future__ import annotations

from typing import Any

from studies.base import across, table_rows

RECIPE: dict[str, Any] = {
    "method": {
        "name": "diswot",
        "search": "exhaustive",
        "space": {"width": [3, 6, 10], "depth": [1, 2, 3], "convolutions": [1, 2]},
        "n_seeds": 3,
        "verify": 12,
    },
    "teacher": {"model": "convnet", "width": 16, "weights": {"train": {"epochs": 20}}},
    "student": {"model": "convnet", "width": 6},
    "data": {"name": "digits", "limit": 300, "test_fraction": 0.4, "split_seed": None},
    "train": {"epochs": 10, "batch_size": 50, "optimizer": {"name": "adamw", "lr": 5e-3}, "schedule": "cosine"},
    "measure": ["accuracy"],
}


def study() -> dict[str, Any]:
    """Rank correlation of each score with distilled accuracy, beside the baselines of the field."""
    rows = table_rows(across(RECIPE), "rank_agreement", ("score",), ("kendall", "spearman", "top_50"))
    kendall = {r["name"]: r["mean"] for r in rows if r["metric"] == "kendall"}
    beaten = sorted(name for name, value in kendall.items() if value < kendall["overall"] and name != "overall")
    return {
        "method": "diswot",
        "what": "Do scores of untrained networks know which student will learn best?",
        "setup": "Digits, divided anew for each of 3 seeds: 300 training and 719 test images. 12 of 18 convnets "
        "(width 3, 6, 10; 1 to 3 stages of 1 or 2 convolutions) distilled for 10 epochs; scores are means over 3 "
        "initialisations. Intervals are 95 % t-intervals over seeds.",
        "rows": rows,
        "note": f"Kendall's tau with distilled accuracy: DisWOT {kendall['overall']:.2f} (relation "
        f"{kendall['relation']:.2f}, semantic {kendall['semantic']:.2f}), number of parameters "
        f"{kendall['parameters']:.2f}. Lower than DisWOT: {', '.join(beaten) or 'none'}.",
    }
