"""Pictures of learners: mastery over time with its uncertainty, and the graph of prerequisites."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.data.answers import DAY, one
from tutelage.models.psi_kt import PsiKT
from tutelage.models.tracer import Tracer
from tutelage.models.tracking import Answer
from tutelage.recipe.errors import InputError


def draw_mastery(model: Tracer, history: Sequence[Answer], concepts: Sequence[int], path: Path) -> None:
    """How likely right answers were after each answer, a line for each concept; a band where the model is unsure.

    Args:
        model: In evaluation mode.
        history: A learner's answers.
        concepts: What is drawn.
        path: ``.svg``, ``.png`` or ``.pdf``.

    Raises:
        InputError: matplotlib is missing, there is no answer, or the file is of another kind.
    """
    if not history:
        raise InputError("there is no answer of this learner on a concept that the model knows")
    figure, axes = _figure(path)
    shown = list(history)[-model.info.window :]
    width = max(len(a.concepts) for a in shown)
    asked = [[*a.concepts, *[-1] * (width - len(a.concepts))] for a in shown]
    batch = one(asked, [a.correct for a in shown], [a.item for a in shown], [a.time for a in shown])
    chance = model.mastery(batch)[0, 1:]
    days = [(a.time - shown[0].time) / DAY for a in shown]
    spread = None
    if isinstance(model, PsiKT):
        beliefs = model.beliefs(batch)
        spread = beliefs.mean[0, 1:], 1.96 * beliefs.variance[0, 1:].sqrt()
    for concept in concepts:
        name = model.info.concept_names[concept]
        (line,) = axes.plot(days, chance[:, concept].tolist(), label=name, drawstyle="steps-post")
        if spread is not None:
            low, high = ((spread[0] + sign * spread[1])[:, concept].sigmoid().tolist() for sign in (-1, 1))
            axes.fill_between(days, low, high, alpha=0.12, color=line.get_color(), step="post", linewidth=0)
        own = [i for i, a in enumerate(shown) if concept in a.concepts]
        for right, mark in ((1, "o"), (0, "x")):
            at = [i for i in own if shown[i].correct == right]
            axes.plot(
                [days[i] for i in at], [float(chance[i, concept]) for i in at], mark, color=line.get_color(), ms=4
            )
    axes.set_ylim(0, 1)
    axes.set_xlabel("days since the first answer shown")
    axes.set_ylabel("probability of a right answer")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize="small")
    figure.savefig(path, bbox_inches="tight")


def draw_prerequisites(names: Sequence[str], rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Concepts on a circle, and an arrow from each to what builds on it, the darker the likelier.

    Args:
        names: Of all concepts; those without an edge are left out.
        rows: ``prerequisite``, ``of`` and ``probability`` of each edge.
        path: ``.svg``, ``.png`` or ``.pdf``.

    Raises:
        InputError: matplotlib is missing, or there is no edge.
    """
    used = [name for name in names if any(name in (row["prerequisite"], row["of"]) for row in rows)]
    if not used:
        raise InputError("there is no edge to draw; lower the threshold")
    figure, axes = _figure(path)
    angle = {name: 2 * math.pi * i / len(used) for i, name in enumerate(used)}
    at = {name: (math.cos(a), math.sin(a)) for name, a in angle.items()}
    for row in rows:
        arrow = {"arrowstyle": "->", "alpha": float(row["probability"]), "shrinkA": 8, "shrinkB": 8}
        axes.annotate("", at[row["of"]], at[row["prerequisite"]], arrowprops=arrow)
    for name, (x, y) in at.items():
        axes.text(1.08 * x, 1.08 * y, name, ha="left" if x > 0 else "right", va="center", fontsize="small")
        axes.plot(x, y, "o", color="tab:blue")
    axes.set_axis_off()
    axes.set_aspect("equal")
    figure.savefig(path, bbox_inches="tight")


def _figure(path: Path) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("pictures need matplotlib: pip install 'tutelage[report]'") from error
    if path.suffix not in (".svg", ".png", ".pdf"):
        raise InputError(f"{path}: expected a name that ends in .svg, .png or .pdf")
    figure = Figure(figsize=(8, 5))
    return figure, figure.subplots()
