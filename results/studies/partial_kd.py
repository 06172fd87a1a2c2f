"""The parts of a soft label, each alone and together: on digits, and where the truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from studies.base import accuracies, collected, means, row
from tutelage.distill.parts.partial_diagnosis import advice
from tutelage.losses import confidence_target, similarity_target, smoothed_labels, soft_cross_entropy

SEEDS = (0, 1, 2)
TRAIN = {"epochs": 60, "batch_size": 20, "optimizer": {"name": "adamw", "lr": 2e-3}, "schedule": "cosine"}
BASE: dict[str, Any] = {
    "name": "study-partial-kd",
    "teacher": {"model": "convnet", "width": 8, "depth": 2, "weights": {"train": TRAIN}},
    "student": {"model": "mlp", "hidden": [16]},
    "data": {"name": "digits", "limit": 200},
    "train": TRAIN,
    "measure": ["accuracy"],
}
VARIANTS = ("ls", "pt", "sim", "pt+sim", "topk", "kd")


def read(report: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy, and how alike student and teacher see the classes."""
    return {**accuracies(report), "similarity_agreement": report["findings"]["similarity_agreement"]}


def study() -> dict[str, Any]:
    """The ladder on digits, then the synthetic protocol."""
    own = {"name": "partial-kd", "weight": 0.7, "temperature": 2.0, "k": 3}
    variants = {"labels": {**own, "variant": "kd", "weight": 0.0}} | {n: {**own, "variant": n} for n in VARIANTS}
    found = collected(BASE, variants, SEEDS, read)
    rows = [row(*key, values) for key, values in found.items()]
    for name in VARIANTS:
        for metric in ("accuracy", "similarity_agreement"):
            pairs = zip(found[name, metric], found["labels", metric], strict=True)
            rows.append(row(f"{name}, over labels", f"{metric} gain", [ours - plain for ours, plain in pairs]))
    surely = [
        one["name"].partition(",")[0]
        for one in rows
        if one["metric"] == "similarity_agreement gain" and (one["low"] > 0 or one["high"] < 0)
    ]
    accuracy, alike = means(rows, "accuracy"), means(rows, "similarity_agreement")
    made = synthetic()
    gains = means(made, "gain over ls")
    said = advice({name: accuracy[name] for name in VARIANTS}, margin=0.01)
    return {
        "method": "partial-kd",
        "what": "Which part of a soft label helps?",
        "setup": (
            "Digits, 200 training images and 359 test images; teacher convnet of width 8, student 64-16-10, 60 epochs "
            "of batch 20 each, AdamW 2e-3 with cosine, weight 0.7, temperature 2. 3 seeds, 95 % t-intervals. "
            "Synthetic: 20 Gaussian classes in 20 dimensions, 4 super-classes (related) or none, noise of one size or "
            "of two (hard), 200 samples, linear student, 5 seeds; the target comes from the generator: the cosines of "
            "its class means (sim), its posterior of the label (pt)."
        ),
        "rows": [*rows, *made],
        "note": (
            f"Agreement on classes {alike['labels']:.2f} with labels, {alike['sim']:.2f} with sim, {alike['kd']:.2f} "
            f"with kd; other than with labels beyond what three seeds explain: {', '.join(surely) or 'none'}. By the "
            f"rules of thumb: {'; '.join(said) or 'nothing to say'}. Synthetic, over label smoothing: "
            f"sim {gains['synthetic, related: sim']:+.3f} where classes are related and "
            f"{gains['synthetic, unrelated: sim']:+.3f} where they are not; pt {gains['synthetic, hard: pt']:+.3f} "
            f"where some samples are harder and {gains['synthetic, even: pt']:+.3f} where none are."
        ),
    }


def synthetic() -> list[dict[str, Any]]:
    """Gains of oracle relations and oracle difficulties over label smoothing, with and without there being any."""
    found: dict[str, list[float]] = {}
    for seed in range(5):
        for name, related, hard in (("related", True, False), ("unrelated", False, False)):
            found.setdefault(f"synthetic, {name}: sim", []).append(_gain(seed, related=related, hard=hard, kind="sim"))
        for name, hard in (("hard", True), ("even", False)):
            found.setdefault(f"synthetic, {name}: pt", []).append(_gain(seed, related=False, hard=hard, kind="pt"))
    return [row(name, "gain over ls", values) for name, values in found.items()]


def _gain(seed: int, *, related: bool, hard: bool, kind: str) -> float:
    torch.manual_seed(seed)
    classes, width = 20, 20
    groups = torch.arange(classes) % 4
    shared, own = torch.randn(4, width), torch.randn(classes, width)
    centres = 2.0 * (0.9 * shared[groups] + 0.45 * own if related else own)
    train, test = (_draw(centres, count, hard=hard) for count in (200, 4000))
    inputs, labels, noise = train
    target = smoothed_labels(labels, classes)
    if kind == "sim":
        oracle = similarity_target(centres - centres.mean(0))[labels]
    else:
        posterior = (-0.5 * torch.cdist(inputs, centres) ** 2 / noise[:, None] ** 2).softmax(-1)
        oracle = confidence_target(posterior, labels)
    accuracy = [_fitted(inputs, labels, soft, test) for soft in (target, oracle)]
    return accuracy[1] - accuracy[0]


def _draw(centres: Tensor, count: int, *, hard: bool) -> tuple[Tensor, Tensor, Tensor]:
    labels = torch.randint(len(centres), (count,))
    noise = torch.where(torch.rand(count) < 0.5, 1.0, 4.0) if hard else torch.full((count,), 2.0)
    return centres[labels] + noise[:, None] * torch.randn(count, centres.shape[1]), labels, noise


def _fitted(inputs: Tensor, labels: Tensor, soft: Tensor, test: tuple[Tensor, Tensor, Tensor]) -> float:
    model = torch.nn.Linear(inputs.shape[1], soft.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(300):
        optimizer.zero_grad()
        logits = model(inputs)
        hard = torch.nn.functional.cross_entropy(logits, labels)
        (0.3 * hard + 0.7 * soft_cross_entropy(logits, soft).mean()).backward()
        optimizer.step()
    with torch.no_grad():
        return float((model(test[0]).argmax(-1) == test[1]).float().mean())
