"""The four answers: what arrived, what was kept, what was lost, what leaked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from tutelage.measure import Number, Predicted, Scored, evaluate
from tutelage.measure.bootstrap import gap_recovered, mean_interval, paired_difference
from tutelage.measure.cost import UNITS
from tutelage.measure.fidelity import Agreement
from tutelage.measure.quality import Accuracy, Brier, NegativeLogLikelihood, Quality
from tutelage.measure.retention import Retention
from tutelage.recipe.errors import InputError, nearest
from tutelage.report.evidence import Evidence, Row
from tutelage.report.pictures import pictures
from tutelage.report.store import FORMAT, plain

METRICS: Mapping[str, type[Quality]] = {"accuracy": Accuracy, "nll": NegativeLogLikelihood, "brier": Brier}
Numbers = dict[str, Number]


class _Quality(Protocol):
    """A mean of per-sample values that says what arrived."""

    @property
    def key(self) -> str: ...

    @property
    def higher_is_better(self) -> bool: ...

    def per_sample(self, subject: Any) -> Any: ...


class _Given:
    """A quality among the scores that rows come with.

    Raises:
        InputError: They have no such score.
    """

    def __init__(self, key: str, like: Scored) -> None:
        own = like.samples.get("quality", {})
        if key not in own:
            raise InputError(f"'{key}' cannot say what arrived. {nearest(key, own)}")
        self.key, self.higher_is_better = key, key not in like.lower_is_better

    def per_sample(self, subject: Scored) -> Any:
        return subject.samples["quality"][self.key].double()


def _quality(evidence: Evidence) -> _Quality:
    scored = next((row.predicted for row in evidence.rows if isinstance(row.predicted, Scored)), None)
    return metric(evidence.metric) if scored is None else _Given(evidence.metric, scored)


def build(evidence: Evidence) -> dict[str, Any]:
    """The report of a run, ready to be written as ``report.json``.

    Args:
        evidence: What was measured, of whom.

    Returns:
        Only mappings, lists, strings, numbers, booleans and ``None``, in an order that depends on the evidence alone.
        ``None`` is what was not measured; so is a number that is not finite, with a warning.

    Raises:
        InputError: The metric is none that can answer what arrived.
        ValueError: Rows were measured on different samples.
    """
    quality = _quality(evidence)
    source, baseline, recipient = evidence.first("source"), evidence.first("baseline"), evidence.recipient
    warnings = list(evidence.warnings)
    measured = [_measured(evidence, row, source, quality) for row in evidence.rows]
    of = {id(row): groups for row, groups in zip(evidence.rows, measured, strict=True)}
    mine = of[id(recipient)] if recipient else {}
    kept, lost = _kept(recipient, source)
    report = {
        "format": FORMAT,
        "method": evidence.method,
        "route": evidence.route,
        "status": evidence.status,
        "arrived": _arrived(quality, recipient, baseline, source, warnings),
        "kept": kept,
        "lost": lost,
        "leaked": {"membership_auc": None, "canary_exposure": None, "backdoor_success": None} | mine.get("leakage", {}),
        "fidelity": {"agreement": None, "kl": None, "reverse_kl": None} | mine.get("fidelity", {}),
        "calibration": {"ece": None, "adaptive_ece": None} | mine.get("calibration", {}),
        "cost": _cost(mine, of[id(source)] if source else {}),
        "artifacts": {name: str(path) for name, path in evidence.artifacts.items()},
        "rows": [
            {"name": row.name, "role": row.role, "n": len(row.predicted), "measures": groups}
            for row, groups in zip(evidence.rows, measured, strict=True)
        ],
        "findings": dict(evidence.findings),
        "figures": pictures(evidence, source, recipient),
    }
    body = plain(report, warnings)
    return {**body, "warnings": list(dict.fromkeys(warnings))}


def metric(name: str) -> Quality:
    """The quality measure of this name.

    Raises:
        InputError: It names none.
    """
    top = re.fullmatch(r"top([1-9]\d*)_accuracy", name)
    if top:
        return Accuracy(top=int(top[1]))
    if name not in METRICS:
        expected = "expected a quality that is a mean over samples"
        raise InputError(f"metric '{name}' cannot say what arrived; {expected}. {nearest(name, METRICS)}")
    return METRICS[name]()


def _measured(evidence: Evidence, row: Row, source: Row | None, quality: _Quality) -> dict[str, Numbers]:
    if isinstance(row.predicted, Scored):
        costs = evaluate([m for m in evidence.measures if m.subject == "any"], row.predicted, cost=row.cost)
        return {**row.predicted.measures(), **costs}
    other = source.predicted if source and row is not source else None
    assert not isinstance(other, Scored)
    groups = evaluate(evidence.measures, row.predicted, other, row.train_predicted, row.cost, row.triggered)
    if isinstance(quality, Quality) and quality.key not in groups.get("quality", {}):
        groups = {"quality": {**quality(row.predicted), **groups.pop("quality", {})}, **groups}
    return groups


def _arrived(
    quality: _Quality, recipient: Row | None, baseline: Row | None, source: Row | None, warnings: list[str]
) -> dict[str, Any]:
    before = recipient.before if recipient else None
    reference = baseline.predicted if baseline else before
    found: dict[str, Any] = {
        "metric": quality.key,
        "higher_is_better": quality.higher_is_better,
        "after": None,
        "baseline": None,
        "before": None,
        "source": None,
        "reference": ("baseline" if baseline else "before") if reference else None,
        "gain": None,
        "gap_recovered": None,
    }
    if recipient is None:
        warnings.append("No recipient was measured, so there is nothing to say about what arrived.")
        return found

    def scores(predicted: Any) -> NDArray[Any]:
        values: NDArray[Any] = quality.per_sample(predicted.aligned_to(recipient.predicted)).numpy()
        return values

    after = scores(recipient.predicted)
    found["after"] = mean_interval(after)
    others = {"baseline": baseline and baseline.predicted, "before": before, "source": source and source.predicted}
    found |= {name: mean_interval(scores(other)) for name, other in others.items() if other}
    if reference is None:
        warnings.append(
            "There is no baseline without transfer, so what arrived is not a difference but only a quality."
        )
        return found
    gain = found["gain"] = paired_difference(after, scores(reference))
    worse = gain.high if quality.higher_is_better else -gain.low if gain.low is not None else None
    if worse is not None and worse < 0:
        label = "the baseline without transfer" if baseline else "itself before"
        warnings.append(f"Negative transfer: the recipient is worse than {label}, beyond what chance explains.")
    if source is not None:
        gap = found["gap_recovered"] = gap_recovered(after, scores(reference), scores(source.predicted))
        if gap is None:
            warnings.append("Source and reference are equally good, so there is no gap to recover.")
        elif gap.low is None:
            warnings.append("The gap between source and reference may be chance; the share recovered has no interval.")
        elif (found["source"].value > found[found["reference"]].value) != quality.higher_is_better:
            warnings.append("The source is worse than the reference, so recovering the gap would mean to lose quality.")
    return found


def _kept(recipient: Row | None, source: Row | None) -> tuple[dict[str, Any], dict[str, Any]]:
    kept: dict[str, Any] = {
        "of_source": None,
        "of_source_by_class": None,
        "of_before": None,
        "of_before_by_class": None,
        "agreement_with_before": None,
    }
    lost: dict[str, Any] = {"of_source": None, "of_before": None}
    if recipient is None:
        return kept, lost
    for key, other in (("of_source", source and source.predicted), ("of_before", recipient.before)):
        numbers = _retention(recipient.predicted, other) if other else {}
        if numbers:
            kept[key], lost[key] = numbers["kept"], numbers["lost"]
            prefix = "kept_class_"
            kept[f"{key}_by_class"] = {k.removeprefix(prefix): v for k, v in numbers.items() if k.startswith(prefix)}
    if isinstance(recipient.before, Predicted) and isinstance(recipient.predicted, Predicted):
        kept["agreement_with_before"] = Agreement()(recipient.predicted, recipient.before)["agreement"]
    return kept, lost


def _retention(subject: Predicted | Scored, other: Predicted | Scored) -> Numbers:
    if isinstance(subject, Predicted) and isinstance(other, Predicted):
        return Retention()(subject, other)
    if not isinstance(subject, Scored) or not isinstance(other, Scored) or subject.right is None:
        return {}
    known = other.aligned_to(subject).right
    if known is None or not known.any():
        return {}
    kept = subject.right[known]
    return {"kept": mean_interval(kept.numpy()), "lost": mean_interval((~kept).numpy())}


def _cost(mine: Mapping[str, Numbers], source: Mapping[str, Numbers]) -> dict[str, Any]:
    own, theirs = mine.get("cost", {}), source.get("cost", {})
    common = [name for name in own if name in theirs and theirs[name].value]
    shares = {name: Number(own[name].value / theirs[name].value) for name in common}
    return {**dict.fromkeys(UNITS), **own, "share_of_source": shares or None}
