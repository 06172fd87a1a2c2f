"""What a report is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tutelage.measure import Measure, Predicted, Scored

Role = Literal["source", "recipient", "baseline", "other"]


@dataclass(frozen=True)
class Row:
    """One model that was measured.

    Args:
        name: Its name in the report, e.g. ``student without transfer``.
        role: ``source`` taught, ``recipient`` learnt, ``baseline`` is the recipient's twin that learnt without
            transfer.
        predicted: Its predictions on the reported split, or what was measured of them there.
        train_predicted: Its predictions on its training split, for leakage; ``None`` when they were not made.
        before: What it predicted before the transfer; ``None`` for a model that knew nothing.
        cost: What the engine counted, by the names of `tutelage.measure.cost.UNITS`.
        triggered: Its predictions on samples that bear a trigger; ``None`` when there are none.
    """

    name: str
    role: Role
    predicted: Predicted | Scored
    train_predicted: Predicted | None = None
    before: Predicted | Scored | None = None
    cost: Mapping[str, float | None] = field(default_factory=dict)
    triggered: Predicted | None = None


@dataclass(frozen=True)
class Evidence:
    """Everything a report says comes from here.

    Args:
        method: Name of the method.
        route: Its route.
        status: How the run ended: ``done``, ``stopped`` (early, with a usable result) or ``failed``.
        metric: The quality the four answers are about: ``accuracy``, ``nll``, ``brier``, or ``top5_accuracy`` and the
            like; for rows that were scored, a quality among their scores.
        rows: The models, in the order they are shown. The first source is the one compared with; the last recipient is
            the one the answers are about, so that generations are listed first to last.
        measures: What the recipe asks to measure, of every row.
        artifacts: Paths of what the run made, by name.
        warnings: What a reader should know.
        curves: One mapping an event: ``step`` and ``stage``, ``name`` of the model (may be absent), ``losses`` and
            ``validation`` (either may be absent), both mappings of numbers by name.
        class_names: Names of the classes in label order; empty for plain numbers.
        findings: What the method measured itself, by name: numbers, texts, or tables as lists of mappings.
        drawn: Pictures of the method's own, as `tutelage.report.drawings` draws them.
    """

    method: str
    route: str
    status: Literal["done", "stopped", "failed"]
    rows: Sequence[Row]
    measures: Sequence[Measure] = ()
    metric: str = "accuracy"
    artifacts: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    curves: Sequence[Mapping[str, Any]] = ()
    class_names: Sequence[str] = ()
    findings: Mapping[str, Any] = field(default_factory=dict)
    drawn: Sequence[Mapping[str, Any]] = ()

    def first(self, role: Role) -> Row | None:
        """The first row of a role."""
        return next((row for row in self.rows if row.role == role), None)

    @property
    def recipient(self) -> Row | None:
        """The row that the answers are about."""
        return next((row for row in reversed(self.rows) if row.role == "recipient"), None)
