"""Logs of answers as recipes name them: the user's files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from tutelage.data.answer_files import read_answers
from tutelage.data.answer_splits import divided
from tutelage.data.answer_tables import Collector
from tutelage.data.splits import Splits
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component


@component("data", "answers")
@dataclass(frozen=True, kw_only=True)
class AnswerFiles:
    """Answers of learners from a table: who answered what when, on which concepts, and whether rightly.

    Rows that cannot be used are left out, counted and reported by reason. A question with several concepts is one step,
    predicted from what came before it.

    Args:
        path: ``.csv``, ``.tsv``, ``.txt`` or ``.parquet``, or EdNet's folder.
        test_path: Test answers, of the same layout; ``null`` to keep a fraction of the others.
        layout: Columns as ``assistments``, ``junyi``, ``duolingo`` or ``standard`` name them; ``pykt`` for its
            sequences, ``lines`` for three lines a learner, ``ednet``; ``auto`` finds out.
        columns: Names of columns by role: ``learner``, ``time``, ``item``, ``concept``, ``correct``.
        questions: EdNet's ``questions.csv``.
        separator: Between several concepts of a question in one cell, e.g. ``";"``.
        combined: Whether the concepts that a question has together are one concept of its own.
        split: Whole learners are kept back, or each learner's last answers: ``learner`` or ``time``.
        test_fraction: Fraction kept for testing.
        validation_fraction: Fraction of the rest kept for validation.
        split_seed: Seed of the division; ``null`` for the run's.
        window: The most steps that a model sees of a learner at once.
        overlap: How many of them may be context, where answers are predicted; half a window unless given.
        max_bad: Share of rows that may be unusable, beyond which the file is refused.
    """

    path: str
    test_path: str | None = None
    layout: Literal["auto", "standard", "assistments", "junyi", "duolingo", "pykt", "lines", "ednet"] = "auto"
    columns: dict[str, str] | None = None
    questions: str | None = None
    separator: str | None = None
    combined: bool = False
    split: Literal["learner", "time"] = "learner"
    test_fraction: Annotated[float, Gt(0), Lt(1)] = 0.2
    validation_fraction: Annotated[float, Ge(0), Lt(1)] = 0.1
    split_seed: Annotated[int, Ge(0)] | None = 0
    window: Annotated[int, Ge(2)] = 200
    overlap: Annotated[int, Ge(0)] | None = None
    max_bad: Annotated[float, Ge(0), Lt(1)] = 0.25

    def load(self, seed: int) -> Splits:
        """Read and divide the answers.

        Args:
            seed: The run's seed, used only when ``split_seed`` is ``None``.

        Raises:
            InputError: A file cannot be read, columns are missing, or too many rows are unusable.
        """
        into = self.read(self.path)
        tested = None
        log = into.log()
        warnings = self._judged(into, self.path)
        concepts, items = into.concept_names, tuple(into.items.index)
        if self.test_path is not None:
            # The same vocabulary goes on, so that a concept has the same index in both files.
            other = self.read(self.test_path, into)
            tested = other.log()
            warnings += self._judged(other, self.test_path)
            concepts, items = other.concept_names, tuple(other.items.index)
        record = {"data": "answers", "rows": into.rows, "left_out": dict(into.dropped.counts)}
        return divided(
            log,
            concepts,
            items,
            by=self.split,
            test=self.test_fraction,
            validation=self.validation_fraction,
            seed=seed if self.split_seed is None else self.split_seed,
            window=self.window,
            overlap=self.window // 2 if self.overlap is None else self.overlap,
            timed=into.timed and into.dated,
            warnings=warnings,
            record=record,
            tested=tested,
        )

    def read(self, path: str, like: Collector | None = None) -> Collector:
        """The rows of a file.

        Args:
            path: The file.
            like: One whose vocabulary goes on.
        """
        into = Collector(separator=self.separator, combined=self.combined) if like is None else like.again()
        questions = None if self.questions is None else Path(self.questions).expanduser()
        read_answers(Path(path).expanduser(), into, layout=self.layout, columns=self.columns, questions=questions)
        return into

    def _judged(self, into: Collector, path: str) -> list[str]:
        """What was left out, as warnings.

        Raises:
            InputError: It is too much.
        """
        said = into.dropped.warnings(path)
        bad = into.dropped.total / max(into.rows, 1)
        if bad > self.max_bad:
            raise InputError(
                f"{100 * bad:.0f} % of {into.rows:,} rows are unusable, more than max_bad "
                f"{self.max_bad:g} allows. " + "; ".join(said)
            )
        return said
