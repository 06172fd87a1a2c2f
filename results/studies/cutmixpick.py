"""What the teacher alone says of augmentations, and the test losses of the students taught with them."""

from __future__ import annotations

from typing import Any

from studies.base import RUNS, row
from tutelage.api import run, score_augmentations
from tutelage.distill.parts.augmentation_score import rank_agreement

SEEDS = (0, 1, 2)
AUGMENTS: dict[str, Any] = {
    "mixup": "mixup",
    "cutmix": "cutmix",
    "cutmix-pick": "cutmix-pick",
    "shift": "shift",
    "cutout": {"name": "cutout", "size": 4},
}


def study() -> dict[str, Any]:
    """Scores and students of every augmentation, with every seed."""
    found: dict[tuple[str, str], list[float]] = {}
    train = {"epochs": 20, "batch_size": 20, "optimizer": {"name": "adamw", "lr": 3e-3}}
    base = {"train": train, "measure": ["accuracy", "nll"], "baseline": False}
    net = {"model": "convnet", "width": 8}
    for seed in SEEDS:
        whole = {**train, "batch_size": 64}
        taught = run(
            {"method": "supervised", "student": net, "data": "digits", "seed": seed, **{**base, "train": whole}},
            root=RUNS,
        )
        few = {"name": "digits", "limit": 300}
        slots = {"teacher": {**net, "weights": str(taught.folder)}, "student": {"model": "convnet", "width": 4}}
        recipe = {"method": "kd", **slots, "data": few, "seed": seed, **base}
        titles = {"cutout (size 4)" if name == "cutout" else name: name for name in ("none", *AUGMENTS)}
        for one in score_augmentations(recipe, list(AUGMENTS.values()), batch_size=20):
            found.setdefault((titles[one["name"]], "T. stddev x 1000"), []).append(1000 * one["spread"])
            found.setdefault((titles[one["name"]], "entropy"), []).append(one["entropy"])
        for name in ("none", *AUGMENTS):
            method: dict[str, Any] = {"name": "cutmixpick", "pick": "none"}
            if name == "none":
                method["mix_weights"] = [1.0, 0.0, 0.0]
            elif name == "cutmix-pick":
                method["pick"] = "teacher_entropy"
            else:
                method["augment"] = [AUGMENTS[name]]
            finished = run({**recipe, "method": method}, root=RUNS)
            recipient = next(one for one in finished.report["rows"] if one["role"] == "recipient")
            for metric, value in recipient["measures"]["quality"].items():
                if metric in ("accuracy", "nll"):
                    found.setdefault((name, metric), []).append(value["value"])
    names = ["none", *AUGMENTS]
    mean = {key: sum(values) / len(values) for key, values in found.items()}
    agreement = rank_agreement(
        [mean[name, "T. stddev x 1000"] for name in names], [mean[name, "nll"] for name in names]
    )
    said = ", ".join(f"{name} {one['value']:.2f} (p {one['p']:.2f})" for name, one in agreement.items())
    order = " < ".join(sorted(names, key=lambda name: mean[name, "T. stddev x 1000"]))
    return {
        "method": "cutmixpick",
        "what": "Does the teacher tell beforehand with which augmentation its students learn best?",
        "setup": (
            "Digits, 3 seeds, 359 test images; teacher convnet width 8 on all training images, student convnet width 4 "
            "on 300 of them, 20 epochs, batch 20, method cutmixpick with each augmentation; T. stddev over 10 epochs, "
            "10 batches a draw."
        ),
        "rows": [row(name, metric, values) for (name, metric), values in found.items()],
        "note": (
            f"T. stddev: {order}. Correlation with the students' mean test loss over {len(names)} augmentations: "
            f"{said}; too few augmentations, too small a task and too few seeds to confirm the paper's claim or to "
            "contradict it."
        ),
    }
