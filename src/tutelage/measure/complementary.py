"""Complementary knowledge: what one model is right about and another is not (arXiv:2310.17653, ICLR 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tutelage.measure.bootstrap import mean_interval, paired_difference
from tutelage.measure.number import Number


def flips(source_right: Tensor, own_right: Tensor) -> dict[str, Number]:
    """Shares of samples on which one of two models alone is right.

    Args:
        source_right: ``[n]`` bool: where the model is right that may teach.
        own_right: ``[n]`` bool: where the model is right that may learn.

    Returns:
        ``positive`` (only the source is right) and ``negative`` (only the other is).
    """
    return {
        "positive": mean_interval((source_right & ~own_right).numpy()),
        "negative": mean_interval((own_right & ~source_right).numpy()),
    }


def flip_pairs(right: Mapping[str, Tensor]) -> list[dict[str, object]]:
    """`flips` of every ordered pair of models, beside how much more accurate the first is.

    Args:
        right: ``[n]`` bool for each model: where it is right.

    Returns:
        Rows ``source``, ``recipient``, ``positive``, ``negative`` and ``accuracy_difference``.
    """
    rows: list[dict[str, object]] = []
    for source, theirs in right.items():
        for other, own in right.items():
            if source != other:
                shares = {name: number.value for name, number in flips(theirs, own).items()}
                ahead = float(theirs.double().mean() - own.double().mean())
                rows.append({"source": source, "recipient": other, **shares, "accuracy_difference": ahead})
    return rows


def transferred(source_right: Tensor, before: Tensor, after: Tensor) -> dict[str, Number]:
    """What a transfer did, judged by the student's own start.

    Args:
        source_right: ``[n]`` bool: where the source is right.
        before: ``[n]`` bool: where the student was right.
        after: ``[n]`` bool: where it is right now.

    Returns:
        ``delta`` (accuracy after minus before), which is ``gain`` (now right, was wrong) minus ``loss`` (now wrong, was
        right); and, if the source alone was right anywhere, ``transfer_rate``: the share of that which is right now.
    """
    positive = source_right & ~before
    out = {
        "delta": paired_difference(after.double().numpy(), before.double().numpy()),
        "gain": mean_interval((after & ~before).numpy()),
        "loss": mean_interval((before & ~after).numpy()),
    }
    if bool(positive.any()):
        out["transfer_rate"] = mean_interval(after[positive].numpy())
    return out


def flipped_classes(positive: Tensor, labels: Tensor, names: Sequence[str]) -> tuple[list[dict[str, object]], float]:
    """Which classes a source's complementary knowledge is about.

    Args:
        positive: ``[n]`` bool: where the source alone is right.
        labels: ``[n]`` int64.
        names: Of the classes.

    Returns:
        Rows ``class``, ``flips``, ``share`` of the classes that have any, most first; and the entropy of the shares in
        nats: 0 where all is about one class, ln(classes) where it is about all alike.
    """
    counts = torch.bincount(labels[positive], minlength=len(names))
    shares = counts.double() / counts.sum().clamp(min=1)
    order = [int(c) for c in counts.argsort(descending=True, stable=True) if counts[c]]
    rows: list[dict[str, object]] = [
        {"class": names[c], "flips": int(counts[c]), "share": float(shares[c])} for c in order
    ]
    return rows, float(-torch.xlogy(shares, shares).sum())


def transfer_by_classes(positive: Tensor, after: Tensor, labels: Tensor, parts: int = 4) -> list[dict[str, object]]:
    """Whether knowledge arrives where there is much of it: the transfer rate over classes ordered by positive flips.

    Args:
        positive: ``[n]`` bool: where the source alone was right.
        after: ``[n]`` bool: where the student is right now.
        labels: ``[n]`` int64.
        parts: How many groups of equally many classes are made of the classes that have flips.

    Returns:
        Rows ``classes`` (range of shares of the classes, most flips first), ``flips`` and ``transfer_rate``.
    """
    counts = torch.bincount(labels[positive])
    order = [int(c) for c in counts.argsort(descending=True, stable=True) if counts[c]]
    parts = min(parts, len(order))
    rows: list[dict[str, object]] = []
    for part in range(parts):
        low, high = part * len(order) // parts, (part + 1) * len(order) // parts
        here = positive & torch.isin(labels, torch.tensor(order[low:high]))
        rows.append(
            {
                "classes": f"{100 * part // parts}-{100 * (part + 1) // parts} %",
                "flips": int(here.sum()),
                "transfer_rate": float(after[here].double().mean()),
            }
        )
    return rows
