"""How two encoders of one shape attend, layer by layer: the instruments of arXiv:2211.11014."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tutelage.data.batch import Batch
from tutelage.losses import attention_divergence, norm_attention, ranking_coverage, soft_cross_entropy
from tutelage.measure.curvature import largest_curvature
from tutelage.models.inert import evaluating
from tutelage.models.taps import Taps


def attention_report(
    teacher: nn.Module, student: nn.Module, blocks: Sequence[str], batch: Batch, *, curvature: bool = False
) -> list[dict[str, Any]]:
    """A row for each block, and one for the whole where curvature is asked for.

    Args:
        teacher: The encoder that is followed.
        student: One of the same shape.
        blocks: Paths of the blocks.
        batch: What both are shown, in evaluation mode.
        curvature: Whether to find the largest Hessian eigenvalues of the prediction loss.

    Returns:
        ``map KL`` of attention maps; ``keys to the teacher's first 5``, a share of all; ``output MSE`` after the
        attention's residual and normalisation, and the student's smallest and largest ``output``; ``norm-based
        difference``, the mean of how much each key adds.
    """
    theirs, ours = (_seen(model, blocks, batch.inputs) for model in (teacher, student))
    rows: list[dict[str, Any]] = []
    for place, block in enumerate(blocks):
        p, q = theirs[f"{block}.attention.probabilities"], ours[f"{block}.attention.probabilities"]
        outputs = [side[f"{block}.norm2"] for side in (theirs, ours)]
        added = [
            norm_attention(
                side[f"{block}.attention.probabilities"],
                side[f"{block}.attention.value"],
                _weight(model, f"{block}.attention.out"),
            )
            for side, model in ((theirs, teacher), (ours, student))
        ]
        row: dict[str, Any] = {
            "block": place,
            "map KL": float(attention_divergence(q, p).mean()),
            "keys to the teacher's first 5": float(ranking_coverage(q, p, top=min(5, p.shape[-1])).mean()),
            "output MSE": float((outputs[0] - outputs[1]).square().mean()),
            "smallest output": float(outputs[1].min()),
            "largest output": float(outputs[1].max()),
            "norm-based difference": float((added[0] - added[1]).abs().mean()),
        }
        rows.append(row)
    if curvature:
        rows.append({"block": "all", **_curvatures(teacher, student, batch)})
    return rows


def _weight(model: nn.Module, path: str) -> Tensor:
    layer = model.get_submodule(path)
    assert isinstance(layer, nn.Linear)
    return layer.weight.detach()


def _seen(model: nn.Module, blocks: Sequence[str], inputs: Tensor) -> dict[str, Tensor]:
    places = ("attention.probabilities", "attention.value", "norm2")
    taps = Taps(model, [f"{block}.{place}" for block in blocks for place in places])
    try:
        with evaluating(model), torch.no_grad():
            model(inputs)
        return taps.collect()
    finally:
        taps.remove()


def _curvatures(teacher: nn.Module, student: nn.Module, batch: Batch) -> dict[str, float]:
    found: dict[str, float] = {}
    with evaluating(teacher), evaluating(student), sdpa_kernel(SDPBackend.MATH):
        with torch.no_grad():
            target = teacher(batch.inputs).softmax(-1)
        for name, model in (("teacher", teacher), ("student", student)):
            flags = {p: p.requires_grad for p in model.parameters()}
            try:
                model.requires_grad_(True)
                loss = soft_cross_entropy(model(batch.inputs), target).mean()
                found[f"{name}'s largest curvature"] = largest_curvature(loss, list(model.parameters()))
            finally:
                for parameter, flag in flags.items():
                    parameter.requires_grad_(flag)
    return found
