"""Learners whose answers are kept in SQLite: what a tutoring system asks, and what nothing acknowledged is lost of."""

from __future__ import annotations

import json
import math
import sqlite3
import threading
import time as clock
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tutelage.models.psi_kt import PsiKT
from tutelage.models.tracer import Tracer
from tutelage.models.tracking import Answer, Tracking
from tutelage.models.weights import load_model
from tutelage.recipe.errors import InputError, nearest

_TABLES = """
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS learners (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS answers (
    id INTEGER PRIMARY KEY, learner INTEGER NOT NULL REFERENCES learners (id), time REAL NOT NULL, item TEXT NOT NULL,
    concepts TEXT NOT NULL, correct INTEGER NOT NULL CHECK (correct IN (0, 1)), UNIQUE (learner, time, item, concepts)
);
"""


@dataclass(frozen=True)
class Taken:
    """What became of answers.

    Args:
        taken: How many are new.
        repeated: How many were there already: the same learner, time, item and concepts.
        unknown: How many are on concepts that the model does not know: kept, but of no use to it.
        chances: How likely a right answer was held before each; ``None`` where that is not known.
        seconds: What it took.
    """

    taken: int
    repeated: int
    unknown: int
    chances: tuple[float | None, ...]
    seconds: float


@dataclass(frozen=True)
class Given:
    """An answer as it comes in.

    Args:
        learner: Whose.
        concepts: Names of the question's concepts.
        correct: 0 or 1.
        time: Seconds since 1970.
        item: The question.
    """

    learner: str
    concepts: tuple[str, ...]
    correct: int
    time: float
    item: str = ""


def given(fields: Mapping[str, Any], place: int, now: float) -> Given:
    """An answer from a mapping, e.g. of JSON.

    Args:
        fields: ``learner``, ``concept`` or ``concepts``, ``correct``, and perhaps ``time`` and ``item``.
        place: Its number, for messages.
        now: Its time where it has none.

    Raises:
        InputError: A field is missing, unknown or of another kind; the text names no learner.
    """
    known = ("learner", "concept", "concepts", "correct", "time", "item")
    for name in fields:
        if name not in known:
            raise InputError(f"answer {place}: '{name}' is no field of an answer. {nearest(name, known)}")
    learner = fields.get("learner")
    if not isinstance(learner, str | int) or isinstance(learner, bool) or str(learner) == "":
        raise InputError(f"answer {place}: expected a learner, a text or a number")
    concepts = fields.get("concepts", fields.get("concept"))
    concepts = [concepts] if isinstance(concepts, str | int) else concepts
    if not isinstance(concepts, Sequence) or not concepts:
        raise InputError(f"answer {place}: expected `concept`, a name, or `concepts`, a list of names")
    correct = fields.get("correct")
    if correct not in (0, 1):
        raise InputError(f"answer {place}: correct is {correct!r}; expected 0 or 1")
    time = fields.get("time", now)
    if not isinstance(time, int | float) or isinstance(time, bool) or not math.isfinite(time):
        raise InputError(f"answer {place}: time is {time!r}; expected seconds since 1970")
    names = tuple(dict.fromkeys(str(c) for c in concepts))
    return Given(str(learner), names, int(correct), float(time), str(fields.get("item", "")))


class Learners:
    """A model and the learners that it follows.

    Args:
        model: Folder of a run, or of a model.
        store: SQLite file; made if it is not there.
        held: The most learners whose states are in memory.

    Raises:
        InputError: There is no model that traces, or the store is another model's.
    """

    def __init__(self, model: str | Path, store: str | Path, *, held: int = 10_000) -> None:
        module = load_model(model)
        if not isinstance(module, Tracer):
            raise InputError(
                f"{model} holds a {type(module).__name__}, which traces no learners; train one with `trace train`"
            )
        self.model = module.requires_grad_(False)
        self.concepts = {name: i for i, name in enumerate(module.info.concept_names)}
        self.items = {name: i for i, name in enumerate(module.info.item_names)}
        self._lock = threading.RLock()
        try:
            self._base = sqlite3.connect(store, check_same_thread=False, isolation_level=None)
            self._base.execute("PRAGMA journal_mode=WAL")
            # An answer is acknowledged when it is on the disk, and not before.
            self._base.execute("PRAGMA synchronous=FULL")
            self._base.executescript(_TABLES)
        except sqlite3.Error as error:
            raise InputError(f"{store} cannot be used as a store of learners: {error}") from error
        own = module.info.fingerprint
        kept = self._base.execute("SELECT value FROM about WHERE key = 'data'").fetchone()
        if kept is None:
            self._base.execute("INSERT INTO about VALUES ('data', ?)", (own,))
        elif kept[0] != own:
            raise InputError(f"{store} belongs to a model of other data; use another file, or that model")
        self._tracking = Tracking(self.model, self._history, held=held)

    def close(self) -> None:
        """Let the store go."""
        with self._lock:
            self._base.close()

    # ------------------------------------------------------------------ taking answers in

    def take(self, answers: Sequence[Given]) -> Taken:
        """Keep answers, and move what is known of their learners; once this returns they are on the disk.

        Args:
            answers: In the order they were given.

        Raises:
            RunError: They could not be kept; then none of them was.
        """
        from tutelage.recipe.errors import RunError

        began = clock.perf_counter()
        with self._lock:
            new: list[tuple[int, int, Answer]] = []
            unknown = 0
            chances: list[float | None] = [None] * len(answers)
            try:
                self._base.execute("BEGIN IMMEDIATE")
                ids = [self._learner(one.learner) for one in answers]
                self._tracking.load(ids)
                for place, (learner, one) in enumerate(zip(ids, answers, strict=True)):
                    row = (learner, one.time, one.item, json.dumps(one.concepts), one.correct)
                    done = self._base.execute(
                        "INSERT OR IGNORE INTO answers (learner, time, item, concepts, correct) VALUES (?, ?, ?, ?, ?)",
                        row,
                    )
                    if done.rowcount:
                        own = self._own(one.concepts, one.correct, one.time, one.item)
                        unknown += own is None
                        if own is not None:
                            new.append((place, learner, own))
                self._base.execute("COMMIT")
            except sqlite3.Error as error:
                self._base.execute("ROLLBACK")
                raise RunError(f"the answers could not be kept: {error}") from error
            with torch.no_grad():
                found = self._tracking.take([(learner, own) for _, learner, own in new])
            for (place, _, _), chance in zip(new, found, strict=True):
                chances[place] = chance
            taken = len(new) + unknown
        spent = clock.perf_counter() - began
        return Taken(taken, len(answers) - taken, unknown, tuple(chances), spent)

    def _learner(self, name: str) -> int:
        found = self._base.execute("SELECT id FROM learners WHERE name = ?", (name,)).fetchone()
        if found is not None:
            return int(found[0])
        made = self._base.execute("INSERT INTO learners (name) VALUES (?)", (name,))
        return int(made.lastrowid or 0)

    def _own(self, concepts: Sequence[str], correct: int, time: float, item: str) -> Answer | None:
        known = tuple(self.concepts[name] for name in concepts if name in self.concepts)
        return Answer(known, correct, time, self.items.get(item, -1)) if known else None

    def _history(self, learner: int) -> list[Answer]:
        rows = self._base.execute(
            "SELECT concepts, correct, time, item FROM answers WHERE learner = ? ORDER BY id", (learner,)
        )
        found = (self._own(json.loads(concepts), correct, time, item) for concepts, correct, time, item in rows)
        return [answer for answer in found if answer is not None]

    # ------------------------------------------------------------------ answering questions

    def _known(self, learner: str) -> int:
        found = self._base.execute("SELECT id FROM learners WHERE name = ?", (learner,)).fetchone()
        if found is None:
            raise InputError("there is no such learner in the store: no answer of theirs was taken in")
        return int(found[0])

    def history(self, learner: str) -> list[Answer]:
        """A learner's answers, in the order they came.

        Raises:
            InputError: There is no such learner.
        """
        with self._lock:
            return self._history(self._known(learner))

    def count(self) -> dict[str, int]:
        """How many learners and answers there are."""
        with self._lock:
            query = "SELECT (SELECT COUNT(*) FROM learners), (SELECT COUNT(*) FROM answers)"
            learners, answers = self._base.execute(query).fetchone()
        return {"learners": int(learners), "answers": int(answers)}

    def state(self, learner: str, now: float) -> dict[str, Any]:
        """How likely a learner answers each concept rightly, with the interval of the state behind it.

        Args:
            learner: Whose.
            now: When, in seconds since 1970.

        Raises:
            InputError: There is no such learner.
        """
        with self._lock, torch.no_grad():
            standing = self._tracking.standing(self._known(learner), now)
        rows = [
            {"concept": name, "chance": round(chance, 6), "low": round(low, 6), "high": round(high, 6)}
            for name, chance, low, high in zip(
                self.concepts, standing.chance.tolist(), standing.low.tolist(), standing.high.tolist(), strict=True
            )
        ]
        return {"answers": standing.answers, "concepts": rows}

    def following(self, learner: str, now: float, *, count: int = 5) -> list[dict[str, Any]]:
        """What to practise next, and why: what is not mastered yet, and whose prerequisites are.

        The rank is how much is left to learn, times how likely every prerequisite is there: each counts by the
        probability that it is one.

        Args:
            learner: Whose.
            now: When, in seconds since 1970.
            count: How many concepts.

        Raises:
            InputError: There is no such learner.
        """
        with self._lock, torch.no_grad():
            chance = self._tracking.standing(self._known(learner), now).chance.double()
            edges = self.model.edges().double() if isinstance(self.model, PsiKT) and self.model.coupled else None
        names = self.model.info.concept_names
        lack = (
            torch.zeros(len(names), len(names), dtype=torch.float64) if edges is None else edges * (1 - chance)[:, None]
        )
        ready = (1 - lack).log().mean(0).exp()
        score = (1 - chance) * ready
        rows = []
        for place in score.argsort(descending=True, stable=True)[:count].tolist():
            why = f"{100 * chance[place]:.0f} % would be answered rightly now"
            if edges is not None:
                first = int((edges[:, place] * (1 - chance)).argmax())
                why += f"; it seems to build on '{names[first]}' ({100 * chance[first]:.0f} %)"
            rows.append(
                {"concept": names[place], "score": float(score[place]), "chance": float(chance[place]), "why": why}
            )
        return rows
