"""Experiments on a method with controls and seeds: `python results/study.py rkd ...` writes raw/distill/<name>.json."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import outcomes
import torch

from tutelage.api import run
from tutelage.measure.bootstrap import across_seeds
from tutelage.recipe.errors import InputError, nearest
from tutelage.recipe.loading import load_recipe

ROOT = Path(__file__).resolve().parents[1]
RUNS = Path(os.environ.get("STUDY_RUNS", ROOT / "runs" / "study"))
SEEDS = (0, 1, 2, 3, 4)
DATA: dict[str, Any] = {"name": "digits", "test_fraction": 0.4, "split_seed": None}
IMAGES: dict[str, Any] = {
    "teacher": {"model": "convnet", "width": 32},
    "student": {"model": "convnet", "width": 8},
    "data": {**DATA, "limit": 100, "augment": ["shift"]},
    "train": {"epochs": 200, "batch_size": 20, "optimizer": {"name": "adamw", "lr": 5e-3}, "schedule": "cosine"},
    "measure": ["accuracy", "agreement", "calibration"],
}
_VIT = {"model": "vit", "patch": [1, 8], "dim": 32, "heads": 4}
TOKENS: dict[str, Any] = {
    **IMAGES,
    "teacher": {**_VIT, "depth": 6},
    "student": {**_VIT, "depth": 3},
    "data": {**DATA, "limit": 200},
    "train": {**IMAGES["train"], "epochs": 100, "optimizer": {"name": "adamw", "lr": 3e-3}},
}
ABOUT = (
    "Digits, divided anew for each of 5 seeds, 719 test images; {models}; batch 20, AdamW with cosine. The control is "
    "the same student from the same start on the same batches, on labels alone; {converged}. Intervals are 95 % "
    "t-intervals over seeds; 'gain' is the paired difference to the control, before correction for the number of "
    "variants."
)
CONV = (
    "teacher convnet width 32 on the 899 training images, student convnet width 8 on 100 of them, shifts of one pixel"
)
VIT = (
    "teacher: transformer of 6 blocks, width 32, reading 8 tokens of 8 pixels, on the 899 training images; student: 3 "
    "blocks, random start, on 200 of them"
)


def taught(base: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The teacher's slot, trained on all training images of the seed's division, none of which is a test image."""
    data = {key: value for key, value in base["data"].items() if key != "limit"}
    train = {**base["train"], "epochs": 60, "batch_size": 32, "optimizer": {"name": "adamw", "lr": 3e-3}}
    recipe = {"method": "supervised", "student": base["teacher"], "data": data, "train": train, "measure": ["accuracy"]}
    folder = RUNS / f"teacher-{base['teacher']['model']}-{seed}"
    if not (folder / "report.json").is_file():
        run({"name": "study-teacher", **recipe, "seed": seed}, run_dir=folder)
    return {**base["teacher"], "weights": str(folder / "model")}


def row(name: str, metric: str, values: Sequence[float]) -> dict[str, Any]:
    """A row of a record: the mean over seeds and its interval."""
    number = across_seeds(values)
    low, high = number.low, number.high
    return {
        "name": name,
        "metric": metric,
        "mean": round(number.value, 4),
        "low": round(low, 4) if low is not None else None,
        "high": round(high, 4) if high is not None else None,
        "n_seeds": len(values),
    }


def study(
    method: str,
    what: str,
    base: Mapping[str, Any],
    variants: Mapping[str, Any],
    about: str,
    *,
    each: Callable[[str, int, Path], None] | None = None,
) -> dict[str, Any]:
    """Run every variant with every seed, and its control, and say what came out.

    Args:
        method: Names the file.
        what: The question.
        base: What the variants share.
        variants: The method, or ``{"method", "stages"}``, by name.
        about: The set-up in words.
        each: Told of every finished run: variant, seed, folder.
    """
    rows: list[dict[str, Any]] = []
    gains: dict[str, Sequence[float]] = {}
    others: dict[str, dict[str, list[float]]] = {}
    for name, spec in variants.items():
        found: dict[str, list[float]] = {}
        for seed in SEEDS:
            whole = spec if "method" in spec else {"method": spec}
            slots = {**base, "teacher": taught(base, seed)}
            finished = run(load_recipe({"name": f"study-{method}", **slots, **whole, "seed": seed}), root=RUNS)
            if each is not None:
                each(name, seed, finished.folder)
            by_role = {one["role"]: one["measures"] for one in finished.report["rows"]}
            for role, measures in by_role.items():
                for group, metric in (("quality", "accuracy"), ("fidelity", "agreement"), ("calibration", "ece")):
                    number = measures.get(group, {}).get(metric)
                    if number is not None:
                        found.setdefault(f"{role}/{metric}", []).append(number["value"])
        rows += [row(name, metric, found[f"recipient/{metric}"]) for metric in ("accuracy", "agreement", "ece")]
        pairs = zip(found["recipient/accuracy"], found["baseline/accuracy"], strict=True)
        gains[name] = [after - control for after, control in pairs]
        rows.append(row(name, "gain", gains[name]))
        others = {"control (labels alone)": {}, "teacher": {}}
        for label, role in (("control (labels alone)", "baseline"), ("teacher", "source")):
            for metric in ("accuracy", "agreement", "ece"):
                if f"{role}/{metric}" in found:
                    others[label][metric] = found[f"{role}/{metric}"]
    rows += [row(label, metric, values) for label, metrics in others.items() for metric, values in metrics.items()]
    return {
        "method": method,
        "what": what,
        "setup": about,
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


def images(method: str, what: str, variants: Mapping[str, Any]) -> dict[str, Any]:
    """A study on images, with classic distillation beside it."""
    converged = (
        "200 epochs, 1,000 steps; twice as many leave the control where it is, 93.1 % and 92.7 % over three seeds"
    )
    beside = {**variants, "kd, for comparison": {"name": "kd"}}
    return study(method, what, IMAGES, beside, ABOUT.format(models=CONV, converged=converged))


def rkd() -> dict[str, Any]:
    """Relations beside labels; and alone, on classes that nobody has seen."""
    weights = {
        "distances": (25.0, 0.0),
        "angles": (0.0, 50.0),
        "both": (25.0, 50.0),
        "both, weights 1 and 2": (1.0, 2.0),
    }
    variants = {n: {"name": "rkd", "distance_weight": d, "angle_weight": a} for n, (d, a) in weights.items()}
    record = images("rkd", "Do relations help beside the labels, and carry an embedding without any?", variants)
    return outcomes.join(record, outcomes.unseen_classes(SEEDS, row))


def topkd() -> dict[str, Any]:
    """The whole and its parts beside labels; and with many images that have none."""
    variants: dict[str, Any] = {
        "topkd, k 3": {"name": "topkd", "k": 3},
        "without scaling": {"name": "topkd", "k": 3, "tsm": False},
        "without contrast": {"name": "topkd", "k": 3, "contrastive_weight": 0.0},
    }
    record = images("topkd", "What do directions of logits do, beside few labels and on images without?", variants)
    return outcomes.join(record, outcomes.few_labels(SEEDS, row))


def layer_selection() -> dict[str, Any]:
    """The study's strategies, everything else equal, and the angles that are to explain them."""
    names = ("none", "forward", "reverse", "random", "all_to_one", "single")
    variants = {n: {"name": "layer-selection", "strategy": n, "hidden_weight": 0.1} for n in names}
    variants["forward, weight 3"] = {"name": "layer-selection", "strategy": "forward", "hidden_weight": 3.0}
    folders: dict[str, list[Path]] = {}
    converged = "100 epochs, 1,000 steps"
    record = study(
        "layer-selection",
        "Does it matter which layers are matched?",
        TOKENS,
        variants,
        ABOUT.format(models=VIT, converged=converged),
        each=lambda name, seed, folder: folders.setdefault(name, []).append(folder),
    )
    return outcomes.join(
        record, outcomes.angles(SEEDS, row, folders, lambda seed: Path(taught(TOKENS, seed)["weights"]))
    )


def fitnet() -> dict[str, Any]:
    """The hint beside labels, and as a first stage of 60 epochs before 140 of classic distillation."""
    hint = {"name": "fitnet", "teacher_tap": "blocks.1", "student_tap": "blocks.1"}
    kd = {"name": "distil", "method": {"name": "kd"}, "train": {"epochs": 140}}
    variants = {
        "hint beside labels": {**hint, "task_weight": 1.0},
        "hint, then kd": {"method": hint, "stages": [{"name": "hint", "train": {"epochs": 60}}, kd]},
    }
    return images("fitnet", "Does a hint in the middle help, beside labels or before distillation?", variants)


def attention_transfer() -> dict[str, Any]:
    """Maps at two depths, and the last one of four positions with the usual weight and with less."""
    two = [["blocks.0", "blocks.0"], ["blocks.1", "blocks.1"]]
    last = [["features", "features"]]
    tried = {"two maps": (two, 1000.0), "two maps, weight 100": (two, 100.0)}
    tried |= {"last map": (last, 1000.0), "last map, weight 10": (last, 10.0)}
    variants = {n: {"name": "attention-transfer", "pairs": p, "beta": beta} for n, (p, beta) in tried.items()}
    return images("attention-transfer", "Does looking where the teacher looks help?", variants)


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
