"""What is done with a model of learners once it is trained, and how one is trained from a log alone."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from tutelage.api.learners import Given, Learners
from tutelage.data.answer_files import read_answers
from tutelage.data.answer_tables import Collector
from tutelage.data.answers import AnswerLog, AnswerWindows, windows
from tutelage.measure.answers import predictions, summary
from tutelage.models.psi_kt import PsiKT
from tutelage.models.tracer import Tracer
from tutelage.models.weights import load_model
from tutelage.recipe.errors import InputError

_FITTED = ("bkt", "pfa", "das3h")
_TAKEN = 2_000


def usual_recipe(log: Path, method: str) -> dict[str, Any]:
    """A recipe with usual settings for a log of answers.

    Args:
        log: Its file.
        method: A method of the route ``trace``, which a model of the same name belongs to.

    Raises:
        InputError: There is no such method.
    """
    from tutelage.recipe.errors import nearest
    from tutelage.recipe.registry import registry

    names = [entry.name for entry in registry().entries("method") if entry.route == "trace"]
    if method not in names:
        raise InputError(f"there is no method '{method}' of the route trace. {nearest(method, names)}")
    recipe: dict[str, Any] = {
        "method": method,
        "model": {"model": method},
        "data": {"name": "answers", "path": str(log)},
        "measure": ["tracing", "cost"],
    }
    if method not in _FITTED:
        stopping = {"name": "early-stopping", "metric": "loss", "patience": 5}
        recipe["train"] = {
            "epochs": 60,
            "batch_size": 32,
            "optimizer": {"name": "adam", "lr": 4e-3},
            "schedule": "constant",
        }
        recipe["callbacks"] = [{"name": "best-checkpoint", "metric": "loss"}, stopping]
    return recipe


def tracer(model: str | Path) -> Tracer:
    """A model of learners, for use.

    Raises:
        InputError: The folder holds none.
    """
    module = load_model(model)
    if not isinstance(module, Tracer):
        raise InputError(f"{model} holds a {type(module).__name__}, which traces no learners")
    return module.requires_grad_(False)


def _read(model: Tracer, path: Path, layout: str) -> tuple[AnswerLog, Collector]:
    """A log in the model's own indices; concepts and items that it does not know come after those that it does."""
    info = model.info
    into = Collector(named=True, concepts=info.concept_names, items=info.item_names)
    read_answers(path, into, layout=layout)
    return into.log(), into


def predict_file(
    model: str | Path,
    answers: Path,
    out: Path | None = None,
    *,
    name_learners: bool = False,
    layout: str = "auto",
    rows: IO[str] | None = None,
) -> dict[str, Any]:
    """How likely each answer of a log was right.

    Args:
        model: Folder of a run, or of a model.
        answers: The log.
        out: CSV that gets a row for each answer.
        name_learners: Whether rows name learners.
        layout: Of the log.
        rows: Where rows go instead, if anywhere.

    Returns:
        Numbers of answers and learners, scores where both kinds of answers are there, and what was left out.

    Raises:
        InputError: There is no model, or the log cannot be read.
    """
    module = tracer(model)
    log, into = _read(module, answers, layout)
    chance, unseen = _chances(module, log)
    learner = np.repeat(np.arange(log.learners), log.counts)
    position = np.arange(len(log)) - np.repeat(log.offsets[:-1], log.counts)
    names = into.concept_names

    def write(file: IO[str]) -> None:
        writer = csv.writer(file)
        writer.writerow([*(["learner"] if name_learners else []), "position", "concept", "correct", "chance", "known"])
        for i in range(len(log)):
            first = [log.names[learner[i]]] if name_learners else []
            asked = " + ".join(names[c] for c in log.concepts[i] if c >= 0)
            writer.writerow([*first, position[i], asked, log.correct[i], f"{chance[i]:.6f}", int(not unseen[i])])

    if out is not None:
        beside = out.with_name(f".{out.name}.partial")
        with open(beside, "w", encoding="utf-8", newline="") as file:
            write(file)
        beside.replace(out)
    elif rows is not None:
        write(rows)
    from tutelage.measure.answers import Answered

    found = Answered(
        torch.from_numpy(chance),
        torch.from_numpy(log.correct.astype(np.float64)),
        torch.from_numpy(learner),
        torch.from_numpy(position),
        torch.from_numpy(log.concepts[:, 0].astype(np.int64)),
    )
    scores = {name: number.value for name, number in summary(found).items()}
    return {
        "answers": len(log),
        "learners": log.learners,
        "unseen": int(unseen.sum()),
        **scores,
        "left out": into.dropped.warnings(answers.name),
    }


def _chances(module: Tracer, log: AnswerLog) -> tuple[np.ndarray[Any, np.dtype[np.float64]], Any]:
    """``[answers]`` chances in the log's order, and which questions have a concept that the model does not know."""
    info = module.info
    unseen = (log.concepts >= info.concepts).any(1)
    items = np.where(log.items >= max(info.items, 1), -1, log.items).astype(np.int32)
    chance = np.full(len(log), info.rate)
    keep = np.flatnonzero(~unseen)
    if len(keep):
        # What the model does not know is no part of the history that it sees.
        learner = np.repeat(np.arange(log.learners), log.counts)[keep]
        counts = np.bincount(learner, minlength=log.learners)
        offsets = np.concatenate([[0], counts.cumsum()]).astype(np.int64)
        own = AnswerLog(offsets, log.concepts[keep], log.correct[keep], items[keep], log.times[keep])
        cut = windows(own, steps=info.window, overlap=info.window // 2)
        found = _in_order(module, cut)
        chance[keep] = found
    return chance, unseen


def _in_order(module: Tracer, cut: AnswerWindows) -> np.ndarray[Any, np.dtype[np.float64]]:
    answered = predictions(module, cut)
    place = torch.from_numpy(cut.log.offsets)[answered.learners] + answered.positions
    found = np.empty(len(answered))
    found[place.numpy()] = answered.chance.numpy()
    return found


def update_from(model: str | Path, answers: Path, store: Path, *, layout: str = "auto") -> dict[str, Any]:
    """Take a log's answers into a store.

    Returns:
        How many were taken in, repeated and of unknown concepts; milliseconds an answer; and what was left out.

    Raises:
        InputError: There is no model, the log cannot be read, or the store is another model's.
    """
    learners = Learners(model, store)
    log, into = _read(learners.model, answers, layout)
    names, items = into.concept_names, tuple(into.items.index)
    who = np.repeat(np.arange(log.learners), log.counts)
    totals = {"taken": 0, "repeated": 0, "unknown": 0}
    spent = 0.0
    # By time, as they would have come in, so that learners move together.
    order = np.lexsort((np.arange(len(log)), log.times))
    for start in range(0, len(order), _TAKEN):
        given = [
            Given(
                log.names[who[i]],
                tuple(names[c] for c in log.concepts[i] if c >= 0),
                int(log.correct[i]),
                float(log.times[i]),
                items[log.items[i]] if log.items[i] >= 0 else "",
            )
            for i in order[start : start + _TAKEN].tolist()
        ]
        done = learners.take(given)
        spent += done.seconds
        for key in totals:
            totals[key] += getattr(done, key)
    learners.close()
    return {
        **totals,
        "milliseconds an answer": 1000 * spent / max(len(log), 1),
        "answers a second": len(log) / max(spent, 1e-9),
        "left out": into.dropped.warnings(answers.name),
    }


def state_of(
    model: str | Path, store: Path, learner: str, *, plot: Path | None = None, concepts: int = 8
) -> dict[str, Any]:
    """What a learner knows now; drawn over time where a file for it is named.

    Raises:
        InputError: There is no such learner, or the picture cannot be drawn.
    """
    learners = Learners(model, store)
    found = learners.state(learner, time.time())
    history = learners.history(learner)
    counts: dict[int, int] = {}
    for answer in history:
        for concept in answer.concepts:
            counts[concept] = counts.get(concept, 0) + 1
    names = learners.model.info.concept_names
    most = sorted(counts, key=lambda c: (-counts[c], c))[:concepts]
    first = {names[c]: i for i, c in enumerate(most)}
    found["concepts"].sort(key=lambda row: first.get(row["concept"], len(first)))
    if plot is not None:
        from tutelage.report.mastery import draw_mastery

        draw_mastery(learners.model, history, most, plot)
    learners.close()
    return found


def next_for(model: str | Path, store: Path, learner: str, *, count: int = 5) -> list[dict[str, Any]]:
    """What a learner practises next, and why.

    Raises:
        InputError: There is no such learner.
    """
    learners = Learners(model, store)
    found = learners.following(learner, time.time(), count=count)
    learners.close()
    return found


def prerequisites(model: str | Path, *, out: Path | None = None, threshold: float = 0.5) -> list[dict[str, Any]]:
    """The prerequisites that a model learnt, the likeliest first; written where a file is named.

    Args:
        model: Folder of a run, or of a model.
        out: ``.graphml``, ``.json``, or a picture.
        threshold: Least probability of an edge.

    Raises:
        InputError: The model has no graph, or the file is of no kind that can be written.
    """
    module = tracer(model)
    if not isinstance(module, PsiKT) or not module.coupled:
        raise InputError(f"{model} holds a model without a graph of prerequisites; 'psi-kt' learns one")
    names = module.info.concept_names
    edges = module.edges().cpu()
    pairs = (edges >= max(threshold, 1e-9)).nonzero().tolist()
    rows = [{"prerequisite": names[i], "of": names[k], "probability": float(edges[i, k])} for i, k in pairs]
    rows.sort(key=lambda row: -float(str(row["probability"])))
    if out is not None:
        _write(out, names, rows)
    return rows


def _write(out: Path, names: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    if out.suffix == ".json":
        content: Mapping[str, Any] = {"concepts": list(names), "edges": rows}
        out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    elif out.suffix == ".graphml":
        from xml.etree import ElementTree as Xml

        root = Xml.Element("graphml", {"xmlns": "http://graphml.graphdrawing.org/xmlns"})
        kind = {"id": "probability", "for": "edge", "attr.name": "probability", "attr.type": "double"}
        Xml.SubElement(root, "key", kind)
        graph = Xml.SubElement(root, "graph", {"edgedefault": "directed"})
        for name in names:
            Xml.SubElement(graph, "node", {"id": name})
        for row in rows:
            edge = Xml.SubElement(graph, "edge", {"source": row["prerequisite"], "target": row["of"]})
            Xml.SubElement(edge, "data", {"key": "probability"}).text = repr(row["probability"])
        Xml.ElementTree(root).write(out, encoding="utf-8", xml_declaration=True)
    elif out.suffix in (".svg", ".png", ".pdf"):
        from tutelage.report.mastery import draw_prerequisites

        draw_prerequisites(names, rows, out)
    else:
        raise InputError(f"{out}: expected a name that ends in .graphml, .json, .svg, .png or .pdf")
