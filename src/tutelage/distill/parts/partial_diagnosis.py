"""What a teacher did to a student, level by level: gradients, class relations, and what a ladder of runs says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.data.splits import Examples
from tutelage.engine.predicting import predict
from tutelage.losses import gradient_rescaling, similarity_agreement, superclass_contrast
from tutelage.models.participant import observing

_EDGES = (-1.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)


def diagnose(
    teacher: nn.Module,
    student: nn.Module,
    examples: Examples,
    *,
    weight: float = 0.5,
    temperature: float = 2.0,
    scale: bool = False,
    groups: Sequence[int] | None = None,
) -> dict[str, Any]:
    """How plain distillation would rescale the gradient of each sample, and how alike the two see the classes.

    Args:
        teacher: ``[batch, *input_shape]`` to ``[batch, classes]`` logits.
        student: The same; at any point of its training.
        examples: What is looked at, with class indices as labels.
        weight: λ of the soft term.
        temperature: T of the soft term.
        scale: Whether the soft term is multiplied by T².
        groups: The super-class of each class, if there are any.

    Returns:
        ``rescaling``: a row for each tenth of the samples by the teacher's confidence in the label, with medians;
        ``histogram`` of the factors; ``similarity_agreement``, and with groups ``superclass_contrast``, of the two
        classifiers' rows.
    """
    device = next(student.parameters()).device
    said = [predict(model, (model,), examples, device) for model in (student, teacher)]
    labels = said[0].labels
    soft = (said[1].logits / temperature).softmax(-1)
    factor = gradient_rescaling(said[0].logits, soft, labels, weight=weight, temperature=temperature, scale=scale)
    sure = said[1].logits.softmax(-1).gather(-1, labels[:, None]).squeeze(-1)
    example = examples.fetch([0]).inputs.to(device)
    rows = [_classifier(name, model, example) for name, model in (("student", student), ("teacher", teacher))]
    found = {
        "rescaling": _deciles(factor, sure),
        "histogram": _histogram(factor),
        "similarity_agreement": float(similarity_agreement(*rows)),
    }
    if groups is not None:
        place = torch.tensor(groups, device=device)
        found |= {
            f"superclass_contrast_{name}": float(superclass_contrast(row, place))
            for name, row in zip(("student", "teacher"), rows, strict=True)
        }
    return found


def advice(accuracy: Mapping[str, float], *, margin: float = 0.0) -> list[str]:
    """What a ladder of runs that differ in nothing but their target says about a teacher: rules of thumb.

    Args:
        accuracy: By variant of `partial-kd`: ``ls``, ``pt``, ``topk``, ``kd``; a rule without its variants is left out.
        margin: Differences up to this are none, such as the width of their interval over seeds.
    """
    rules = (
        (
            ("kd", "ls"),
            lambda kd, ls: kd <= ls + margin,
            "kd is no better than label smoothing: the teacher's confidence says nothing about the samples, as of one "
            "that was trained with smoothed labels, or for so long that it is certain of all of them",
        ),
        (("topk", "kd"), lambda top, kd: top > kd + margin, "topk is better than kd: the teacher's tail is noise"),
        (
            ("pt", "kd"),
            lambda pt, kd: abs(pt - kd) <= margin,
            "pt is as good as kd: relations between classes do not help",
        ),
    )
    return [
        text for names, holds, text in rules if set(names) <= set(accuracy) and holds(*(accuracy[n] for n in names))
    ]


def _classifier(name: str, model: nn.Module, example: Tensor) -> Tensor:
    with observing(name, model, example=example) as one:
        return one.classifier(example).weight.detach()


def _deciles(factor: Tensor, sure: Tensor) -> list[dict[str, float]]:
    parts = sure.argsort(stable=True).tensor_split(min(10, len(sure)))
    return [
        {
            "tenth": place,
            "teacher_confidence": float(sure[part].mean()),
            "median_factor": float(factor[part].median()),
            "mean_factor": float(factor[part].clamp(-10, 10).mean()),
        }
        for place, part in enumerate(parts, 1)
    ]


def _histogram(factor: Tensor) -> list[dict[str, Any]]:
    place = torch.bucketize(factor, torch.tensor(_EDGES), right=True)
    counts = torch.bincount(place, minlength=len(_EDGES) + 1).tolist()
    names = [f"below {_EDGES[0]:g}", *(f"{a:g} to {b:g}" for a, b in pairwise(_EDGES))]
    names.append(f"{_EDGES[-1]:g} or more")
    return [{"factor": name, "samples": count} for name, count in zip(names, counts, strict=True)]
