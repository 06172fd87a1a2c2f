"""Experiments on a method with controls and seeds: `python results/study.py rkd ...` writes raw/distill/<name>.json."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tutelage.api import run
from tutelage.measure.bootstrap import across_seeds
from tutelage.recipe.errors import InputError, nearest
from tutelage.recipe.loading import load_recipe

ROOT = Path(__file__).resolve().parents[1]
SEEDS = (0, 1, 2, 3, 4)
IMAGES: dict[str, Any] = {
    "teacher": {"model": "convnet", "width": 16, "weights": {"train": {"epochs": 60}}},
    "student": {"model": "convnet", "width": 4},
    "data": {"name": "digits", "limit": 200, "test_fraction": 0.4, "augment": ["shift"], "split_seed": None},
    "train": {"epochs": 100, "batch_size": 20, "optimizer": {"name": "adamw", "lr": 3e-3}, "schedule": "cosine"},
    "measure": ["accuracy", "agreement", "calibration"],
}
TOKENS: dict[str, Any] = {
    **IMAGES,
    "teacher": {
        "model": "vit",
        "patch": [1, 8],
        "dim": 32,
        "depth": 6,
        "heads": 4,
        "weights": {"train": {"epochs": 60}},
    },
    "student": {"model": "vit", "patch": [1, 8], "dim": 32, "depth": 3, "heads": 4},
    "data": {"name": "digits", "limit": 200, "test_fraction": 0.4, "split_seed": None},
}
ABOUT = (
    "Digits, 200 training images and 719 test images, divided anew for each of 5 seeds; {models}, both on the same "
    "images; 100 epochs of batch 20 (1,000 steps), AdamW 3e-3 with cosine; converged. Intervals are 95 % t-intervals "
    "over seeds; 'gain' is the paired difference to the control of the same seed, start and batches."
)
CONV = "teacher convnet width 16 (60 epochs), student convnet width 4, shifts of one pixel"
VIT = "teacher: transformer of 6 blocks, width 32, reading 8 tokens of 8 pixels; student: 3 blocks"


def study(method: str, what: str, base: Mapping[str, Any], variants: Mapping[str, Any], about: str) -> dict[str, Any]:
    """Run every variant with every seed, and its control, and say what came out."""
    rows: list[dict[str, Any]] = []

    def add(name: str, metric: str, values: Sequence[float]) -> None:
        number = across_seeds(values)
        rows.append(
            {
                "name": name,
                "metric": metric,
                "mean": round(number.value, 4),
                "low": round(number.low, 4) if number.low is not None else None,
                "high": round(number.high, 4) if number.high is not None else None,
                "n_seeds": len(values),
            }
        )

    gains: dict[str, Sequence[float]] = {}
    others: dict[str, dict[str, list[float]]] = {}
    for name, spec in variants.items():
        found: dict[str, list[float]] = {}
        for seed in SEEDS:
            recipe = load_recipe({"name": f"study-{method}", **base, "method": spec, "seed": seed})
            rows_of = run(recipe, root=ROOT / "runs" / "study").report["rows"]
            by_role = {row["role"]: row["measures"] for row in rows_of}
            for role, measures in by_role.items():
                for group, metric in (("quality", "accuracy"), ("fidelity", "agreement"), ("calibration", "ece")):
                    number = measures.get(group, {}).get(metric)
                    if number is not None:
                        found.setdefault(f"{role}/{metric}", []).append(number["value"])
        for metric in ("accuracy", "agreement", "ece"):
            add(name, metric, found[f"recipient/{metric}"])
        pairs = zip(found["recipient/accuracy"], found["baseline/accuracy"], strict=True)
        gains[name] = [after - control for after, control in pairs]
        add(name, "gain", gains[name])
        others = {"control (labels alone)": {}, "teacher": {}}
        for label, role in (("control (labels alone)", "baseline"), ("teacher", "source")):
            for metric in ("accuracy", "agreement", "ece"):
                if f"{role}/{metric}" in found:
                    others[label][metric] = found[f"{role}/{metric}"]
    for label, metrics in others.items():
        for metric, values in metrics.items():
            add(label, metric, values)
    return {
        "method": method,
        "what": what,
        "setup": ABOUT.format(models=about),
        "rows": rows,
        "note": verdict({name: across_seeds(values) for name, values in gains.items()}),
    }


def verdict(gains: Mapping[str, Any]) -> str:
    """One sentence that the numbers decide."""
    better = [name for name, gain in gains.items() if gain.low is not None and gain.low > 0]
    worse = [name for name, gain in gains.items() if gain.high is not None and gain.high < 0]
    said = []
    if better:
        said.append("more accurate than the control beyond what seeds explain: " + ", ".join(better))
    if worse:
        said.append("less accurate than the control beyond what seeds explain: " + ", ".join(worse))
    rest = [name for name in gains if name not in (*better, *worse)]
    if rest:
        said.append("no difference to the control that five seeds can show: " + ", ".join(rest))
    text = "; ".join(said)
    return text[0].upper() + text[1:] + "."


def rkd() -> dict[str, Any]:
    """Distances, angles, both."""
    weights = {"distances": (25.0, 0.0), "angles": (0.0, 50.0), "both": (25.0, 50.0)}
    variants = {n: {"name": "rkd", "distance_weight": d, "angle_weight": a} for n, (d, a) in weights.items()}
    return study("rkd", "Which relations help a small network beside the labels?", IMAGES, variants, CONV)


def topkd() -> dict[str, Any]:
    """The whole, its parts, and classic distillation beside it."""
    variants: dict[str, Any] = {
        "topkd, k 3": {"name": "topkd", "k": 3},
        "without scaling": {"name": "topkd", "k": 3, "tsm": False},
        "without contrast": {"name": "topkd", "k": 3, "contrastive_weight": 0.0},
        "kd, for comparison": {"name": "kd", "temperature": 4.0},
    }
    return study("topkd", "What do directions of logits do beside the labels?", IMAGES, variants, CONV)


def layer_selection() -> dict[str, Any]:
    """The study's strategies, everything else equal."""
    names = ("none", "forward", "reverse", "random", "all_to_one")
    variants = {n: {"name": "layer-selection", "strategy": n, "hidden_weight": 0.1} for n in names}
    variants["forward, weight 3"] = {"name": "layer-selection", "strategy": "forward", "hidden_weight": 3.0}
    return study("layer-selection", "Does it matter which layers are matched?", TOKENS, variants, VIT)


def fitnet() -> dict[str, Any]:
    """The hint as a term beside the labels (the two-stage form is the shipped recipe)."""
    hint = {"name": "fitnet", "teacher_tap": "blocks.1", "student_tap": "blocks.1", "task_weight": 1.0}
    return study("fitnet", "Does a hint in the middle help?", IMAGES, {"hint beside labels": hint}, CONV)


def attention_transfer() -> dict[str, Any]:
    """Maps at one depth and at two."""
    pairs = {"last map": [["features", "features"]], "two maps": [["blocks.0", "blocks.0"], ["blocks.1", "blocks.1"]]}
    variants = {n: {"name": "attention-transfer", "pairs": p} for n, p in pairs.items()}
    return study("attention-transfer", "Does looking where the teacher looks help?", IMAGES, variants, CONV)


STUDIES: Mapping[str, Callable[[], dict[str, Any]]] = {
    "rkd": rkd,
    "topkd": topkd,
    "layer-selection": layer_selection,
    "fitnet": fitnet,
    "attention-transfer": attention_transfer,
}


def main(names: Sequence[str]) -> None:
    """Run the studies named, or all."""
    torch.set_num_threads(1)
    for name in names or STUDIES:
        if name not in STUDIES:
            raise InputError(f"there is no study '{name}'. {nearest(name, STUDIES)}")
        target = ROOT / "results" / "raw" / "distill" / f"{name}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(STUDIES[name](), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
