from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
import torch

from tutelage.measure import Predicted
from tutelage.measure.bootstrap import gap_recovered
from tutelage.recipe.errors import InputError
from tutelage.report.answers import build, metric
from tutelage.report.evidence import Evidence, Row
from tutelage.report.store import to_json

KEYS = [
    *("format", "method", "route", "status", "arrived", "kept", "lost", "leaked", "fidelity", "calibration", "cost"),
    *("artifacts", "rows", "findings", "figures", "warnings"),
]


def check(report: dict[str, Any]) -> None:
    import jsonschema

    schema = json.loads(files("tutelage.report").joinpath("schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads(to_json(report)))


def test_the_report_follows_its_schema(report: dict[str, Any]) -> None:
    assert list(report) == KEYS
    check(report)


def test_the_schema_refuses_a_bare_number_and_an_unknown_key(report: dict[str, Any]) -> None:
    import jsonschema

    with pytest.raises(jsonschema.ValidationError):
        check({**report, "calibration": {**report["calibration"], "ece": 0.1}})
    with pytest.raises(jsonschema.ValidationError):
        check({**report, "learned": {}})


def test_arrived_is_a_difference(report: dict[str, Any], evidence: Evidence) -> None:
    arrived = report["arrived"]
    source, student, alone = (row.predicted.correct.double().mean().item() for row in evidence.rows)
    assert arrived["after"]["value"] == pytest.approx(student)
    assert arrived["gain"]["value"] == pytest.approx(student - alone)
    assert arrived["gap_recovered"]["value"] == pytest.approx((student - alone) / (source - alone))
    assert arrived["reference"] == "baseline"
    assert arrived["gain"]["low"] > 0
    assert arrived["after"]["n"] == 797


def test_kept_and_lost_by_hand(report: dict[str, Any], evidence: Evidence) -> None:
    teacher, student = (row.predicted.correct.numpy() for row in evidence.rows[:2])
    assert report["kept"]["of_source"]["value"] == pytest.approx(student[teacher].mean())
    assert report["lost"]["of_source"]["value"] == pytest.approx(1 - student[teacher].mean())
    before = evidence.rows[1].before
    assert before is not None
    known = before.correct.numpy()
    assert report["kept"]["of_before"] == report["kept"]["of_before"] | {"n": int(known.sum())}
    assert report["lost"]["of_before"]["value"] == pytest.approx(1 - student[known].mean())
    agreement = (before.classes == evidence.rows[1].predicted.classes).double().mean().item()
    assert report["kept"]["agreement_with_before"]["value"] == pytest.approx(agreement)
    assert set(report["kept"]["of_source_by_class"]) == {str(label) for label in range(10)}


def test_what_was_not_measured_is_null(evidence: Evidence) -> None:
    rows = [replace(row, train_predicted=None, before=None, cost={}) for row in evidence.rows]
    report = build(replace(evidence, rows=rows, measures=(), curves=()))
    check(report)
    assert report["leaked"] == {"membership_auc": None, "canary_exposure": None, "backdoor_success": None}
    assert set(report["fidelity"].values()) | set(report["calibration"].values()) | set(report["cost"].values()) == {
        None
    }
    assert report["kept"]["of_before"] is None
    assert report["arrived"]["after"] is not None


def test_costs_relative_to_the_source(report: dict[str, Any]) -> None:
    assert report["cost"]["share_of_source"] == {
        "parameters": {"value": pytest.approx(650 / 9610), "low": None, "high": None, "n": None}
    }
    assert report["cost"]["latency"] is None


def test_without_a_baseline_the_former_self_is_the_reference(evidence: Evidence) -> None:
    report = build(replace(evidence, rows=evidence.rows[:2]))
    assert report["arrived"]["reference"] == "before"
    assert report["arrived"]["baseline"] is None
    student = replace(evidence.rows[1], before=None)
    report = build(replace(evidence, rows=[evidence.rows[0], student]))
    check(report)
    assert (report["arrived"]["reference"], report["arrived"]["gain"]) == (None, None)
    assert any("no baseline" in warning for warning in report["warnings"])


def test_a_worse_recipient_is_called_negative_transfer(evidence: Evidence) -> None:
    source, student, alone = evidence.rows
    swapped = [source, replace(student, predicted=alone.predicted), replace(alone, predicted=student.predicted)]
    for name in ("accuracy", "nll", "brier"):
        found = build(replace(evidence, rows=swapped, metric=name))
        assert any("Negative transfer" in warning for warning in found["warnings"]), name
        right = build(replace(evidence, metric=name))
        assert not any("Negative transfer" in warning for warning in right["warnings"]), name
        assert right["arrived"]["gap_recovered"]["value"] > 0


def test_no_gap_is_said(evidence: Evidence) -> None:
    source, student, alone = evidence.rows
    report = build(replace(evidence, rows=[source, student, replace(alone, predicted=source.predicted)]))
    check(report)
    assert report["arrived"]["gap_recovered"] is None
    assert any("no gap" in warning for warning in report["warnings"])


def test_generations_end_in_the_one_that_answers(evidence: Evidence, predict: Callable[..., Predicted]) -> None:
    last = Row("generation 2", "recipient", predict("generation 2", 800))
    report = build(replace(evidence, rows=[*evidence.rows, last]))
    assert [row["name"] for row in report["rows"]][-1] == "generation 2"
    assert report["arrived"]["after"]["value"] == pytest.approx(last.predicted.correct.double().mean().item())


def test_a_failed_run_still_has_a_report(evidence: Evidence) -> None:
    report = build(replace(evidence, status="failed", rows=()))
    check(report)
    assert report["arrived"]["after"] is None
    assert any("No recipient" in warning for warning in report["warnings"])


def test_a_diverged_recipient_writes_no_nan(evidence: Evidence) -> None:
    student = evidence.rows[1]
    broken = Predicted("student", torch.full_like(student.predicted.logits, np.nan), *_rest(student.predicted))
    report = build(replace(evidence, rows=[evidence.rows[0], replace(student, predicted=broken), evidence.rows[2]]))
    check(report)
    assert report["arrived"]["after"]["value"] == 0.0
    assert report["fidelity"]["kl"] is None
    assert report["calibration"]["ece"] is None
    assert any("fidelity.kl is not finite" in warning for warning in report["warnings"])


def test_the_same_evidence_gives_the_same_text(evidence: Evidence, report: dict[str, Any]) -> None:
    assert to_json(build(evidence)) == to_json(report)


def test_rows_in_another_sample_order_are_matched(evidence: Evidence, report: dict[str, Any]) -> None:
    source = evidence.rows[0]
    order = torch.randperm(len(source.predicted), generator=torch.Generator().manual_seed(0))
    shuffled = Predicted("teacher", *(t[order] for t in (source.predicted.logits, *_rest(source.predicted))))
    again = build(replace(evidence, rows=[replace(source, predicted=shuffled), *evidence.rows[1:]]))
    assert again["arrived"]["gap_recovered"] == report["arrived"]["gap_recovered"]
    assert again["fidelity"] == report["fidelity"]
    assert again["figures"]["agreement"] == report["figures"]["agreement"]


def test_the_gap_is_the_bootstraps(evidence: Evidence, report: dict[str, Any]) -> None:
    source, student, alone = (row.predicted.correct.numpy() for row in evidence.rows)
    number = gap_recovered(student, alone, source)
    assert number is not None
    assert report["arrived"]["gap_recovered"] == number.to_dict()


def test_metrics_by_name() -> None:
    assert metric("top5_accuracy").key == "top5_accuracy"
    with pytest.raises(InputError, match=r"metric 'acuracy' cannot .* Did you mean 'accuracy'\?"):
        metric("acuracy")


def test_pictures_are_small_and_complete(report: dict[str, Any], evidence: Evidence) -> None:
    figures = report["figures"]
    assert np.sum(figures["agreement"]["counts"]) == 797
    agree = np.trace(figures["agreement"]["counts"]) / 797
    assert agree == pytest.approx(report["fidelity"]["agreement"]["value"])
    assert [sum(diagram["count"]) for diagram in figures["reliability"]] == [797] * 3
    terms = {(c["stage"], c["kind"], c["term"]): c["points"] for c in figures["curves"]}
    assert len(terms) == 6
    assert len(terms["transfer", "losses", "task"]) == 300
    assert len(terms["transfer", "validation", "accuracy"]) == 7
    # Thinning averages, so the mean of all steps survives.
    values = [value for _, value in terms["transfer", "losses", "transfer"]]
    assert np.mean(values) == pytest.approx(1.5)


def _rest(predicted: Predicted) -> tuple[torch.Tensor, torch.Tensor]:
    return predicted.labels, predicted.ids
