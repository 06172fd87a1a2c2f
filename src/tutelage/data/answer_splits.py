"""Dividing a log of answers into what is learnt from and what is predicted: by learner or by time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tutelage.data.answers import AnswerLog, AnswerWindows, TraceInfo, windows
from tutelage.data.splits import Splits
from tutelage.recipe.errors import InputError

By = Literal["learner", "time"]


def divided(
    log: AnswerLog,
    concepts: Sequence[str],
    items: Sequence[str],
    *,
    by: By,
    test: float,
    validation: float,
    seed: int,
    window: int,
    overlap: int,
    timed: bool,
    warnings: Sequence[str] = (),
    record: Mapping[str, Any] | None = None,
    tested: AnswerLog | None = None,
) -> Splits:
    """Splits of windows.

    Args:
        log: All answers, or those to learn from where ``tested`` are apart.
        concepts: Names by index.
        items: Likewise.
        by: Whether whole learners are kept back, or each learner's last answers, which their earlier ones are context
            of.
        test: Fraction of learners, or of each learner's answers.
        validation: Likewise.
        seed: Of the division by learner.
        window: The most steps of a window.
        overlap: How many steps of a window, where answers are predicted, may be context.
        timed: Whether times are times.
        warnings: What a reader should know already.
        record: Facts for the manifest.
        tested: Test answers of a file of their own.

    Raises:
        InputError: A part would be empty.
    """
    if overlap >= window:
        raise InputError(
            f"overlap {overlap} leaves nothing of a window of {window} steps to predict; choose at most {window - 1}"
        )
    parts: dict[str, AnswerWindows | None]
    if by == "learner" or tested is not None:
        groups = _learners(log, validation, 0.0 if tested is not None else test, seed)
        parts = {
            "train": windows(log, steps=window, learners=groups["train"]),
            "validation": windows(log, steps=window, overlap=overlap, learners=groups["validation"]),
        }
        if tested is not None:
            parts["test"] = windows(tested, steps=window, overlap=overlap)
        else:
            parts["test"] = windows(log, steps=window, overlap=overlap, learners=groups["test"])
    else:
        counts = log.counts
        ends = log.offsets[1:]
        held = np.floor(counts * test).astype(np.int64)
        looked = np.floor((counts - held) * validation).astype(np.int64)
        parts = {
            "train": windows(log, steps=window, end=ends - held - looked),
            "validation": windows(log, steps=window, overlap=overlap, score=ends - held - looked, end=ends - held),
            "test": windows(log, steps=window, overlap=overlap, score=ends - held, end=ends),
        }
    for name in ("train", "test"):
        part = parts[name]
        assert part is not None
        if not len(part):
            raise InputError(
                f"the {name} part has no answers: there are {log.learners} learners, the longest with "
                f"{int(log.counts.max())} answers; choose other fractions, or `split: learner`"
            )
    train, tests = parts["train"], parts["test"]
    assert train is not None
    assert tests is not None
    looked_at = parts["validation"]
    if looked_at is not None and not len(looked_at):
        looked_at = None
    remarks, rate = _remarks(log, train, tests, len(concepts))
    told = [*warnings, *remarks]
    width = max(log.concepts.shape[1], tested.concepts.shape[1] if tested is not None else 1)
    info = TraceInfo(
        (width,),
        0,
        (),
        fingerprint(log, tested),
        concept_names=tuple(concepts),
        item_names=tuple(items),
        width=width,
        timed=timed,
        rate=rate,
        window=window,
    )
    about = {
        "answers": len(log) + (len(tested) if tested is not None else 0),
        "learners": log.learners,
        "concepts": len(concepts),
        "items": len(items),
        "split": by,
    }
    return Splits(train, looked_at, tests, info, told, {**(record or {}), **about})


def _learners(log: AnswerLog, validation: float, test: float, seed: int) -> dict[str, NDArray[np.int64]]:
    order = np.random.default_rng(seed).permutation(log.learners)
    held = round(log.learners * test)
    looked = round((log.learners - held) * validation)
    return {
        "test": np.sort(order[:held]),
        "validation": np.sort(order[held : held + looked]),
        "train": np.sort(order[held + looked :]),
    }


def _tally(part: AnswerWindows, concepts: int) -> tuple[NDArray[np.int64], int, int]:
    """How often a part scores each concept, and how many answers, and right answers, it scores."""
    counts, right, total = np.zeros(concepts, dtype=np.int64), 0, 0
    for start in range(0, len(part), 4096):
        piece = slice(start, start + 4096)
        size = part.stops[piece] - part.targets[piece]
        at = np.repeat(part.targets[piece] - (size.cumsum() - size), size) + np.arange(size.sum())
        asked = part.log.concepts[at]
        counts += np.bincount(asked[asked >= 0], minlength=concepts)
        right += int(part.log.correct[at].sum())
        total += len(at)
    return counts, total, right


def _remarks(log: AnswerLog, train: AnswerWindows, test: AnswerWindows, concepts: int) -> tuple[list[str], float]:
    """What a reader should know, and the share of right answers in training."""
    said = []
    single = int((log.counts == 1).sum())
    if single:
        said.append(f"{single:,} learner{'s' * (single > 1)} gave one answer only: predicted without a history")
    seen, total, right = _tally(train, concepts)
    asked, _, _ = _tally(test, concepts)
    new = (seen == 0) & (asked > 0)
    if new.any():
        names = int(new.sum())
        said.append(
            f"{int(asked[new].sum()):,} test answers are on {names:,} concept{'s' * (names > 1)} that training never "
            "saw: nothing was learnt of them"
        )
    if right in (0, total):
        raise InputError(
            f"all {total:,} training answers are {'right' if right else 'wrong'}: there is nothing to tell apart"
        )
    return said, right / total


def fingerprint(*logs: AnswerLog | None) -> str:
    """Hash of the answers; learners' names have no part in it."""
    import hashlib

    digest = hashlib.blake2b(digest_size=16)
    for log in logs:
        for array in (log.offsets, log.concepts, log.correct, log.items, log.times) if log is not None else ():
            for start in range(0, len(array), 1 << 20):
                digest.update(np.ascontiguousarray(array[start : start + (1 << 20)]).tobytes())
    return digest.hexdigest()
