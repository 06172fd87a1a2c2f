"""Experiments on a method with controls and seeds: `python results/study.py rkd ...` writes raw/distill/<name>.json."""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import outcomes
import studies
import torch
from studies.base import ABOUT, CONV, IMAGES, ROOT, SEEDS, TOKENS, VIT, row, study, taught

from tutelage.recipe.errors import InputError, nearest


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
    **{
        found.name.replace("_", "-"): importlib.import_module(f"studies.{found.name}").study
        for found in pkgutil.iter_modules(studies.__path__)
        if found.name != "base"
    },
}


def main(names: Sequence[str]) -> None:
    """Run the studies named, or all."""
    torch.set_num_threads(1)
    for name in names or STUDIES:
        if name not in STUDIES:
            raise InputError(f"there is no study '{name}'. {nearest(name, STUDIES)}")
        record = STUDIES[name]()
        target = ROOT / "results" / "raw" / record.get("page", "distill") / f"{name}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
