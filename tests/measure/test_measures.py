"""Each measure against torchmetrics, scikit-learn or SciPy on real predictions, and its identities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.measure import Number, Predicted
from tutelage.measure.fidelity import Agreement, KullbackLeibler
from tutelage.measure.leakage import Membership, auc_interval
from tutelage.measure.quality import Accuracy, Brier, NegativeLogLikelihood
from tutelage.measure.retention import Retention


def inside(number: Number) -> bool:
    return number.low < number.value < number.high


def test_accuracy_agrees_with_torchmetrics(student: Predicted) -> None:
    from torchmetrics.functional.classification import multiclass_accuracy

    for top in (1, 3):
        ((name, number),) = Accuracy(top=top)(student, None).items()
        theirs = multiclass_accuracy(student.logits, student.labels, 10, average="micro", top_k=top)
        assert name == ("accuracy" if top == 1 else "top3_accuracy")
        assert number.value == pytest.approx(float(theirs))
        assert inside(number)
        assert number.n == len(student)


def test_accuracy_among_more_classes_than_there_are_is_certain(student: Predicted) -> None:
    assert Accuracy(top=99)(student)["top99_accuracy"].value == 1.0


def test_nll_and_brier_agree_with_scikit_learn(student: Predicted) -> None:
    from sklearn.metrics import brier_score_loss, log_loss

    probabilities, labels = student.probabilities.numpy(), student.labels.numpy()
    nll = NegativeLogLikelihood()(student)["nll"]
    brier = Brier()(student)["brier"]
    assert nll.value == pytest.approx(log_loss(labels, probabilities, labels=range(10)))
    assert brier.value == pytest.approx(brier_score_loss(labels, probabilities, labels=range(10), scale_by_half=False))
    assert inside(nll)
    assert inside(brier)


def test_agreement_is_accuracy_against_the_sources_classes(student: Predicted, teacher: Predicted) -> None:
    from sklearn.metrics import accuracy_score

    number = Agreement()(student, teacher)["agreement"]
    assert number.value == pytest.approx(accuracy_score(teacher.classes.numpy(), student.classes.numpy()))
    assert inside(number)
    assert Agreement()(student, student)["agreement"].value == 1.0


def test_kl_agrees_with_torchmetrics_both_ways(student: Predicted, teacher: Predicted) -> None:
    from torchmetrics.functional.regression import kl_divergence

    numbers = KullbackLeibler()(student, teacher)
    p, q = teacher.log_probabilities, student.log_probabilities
    assert numbers["kl"].value == pytest.approx(float(kl_divergence(p, q, log_prob=True)))
    assert numbers["reverse_kl"].value == pytest.approx(float(kl_divergence(q, p, log_prob=True)))
    warmer = KullbackLeibler(temperature=4.0)(student, teacher)
    theirs = kl_divergence((teacher.logits / 4).softmax(1), (student.logits / 4).softmax(1))
    assert warmer["kl"].value == pytest.approx(float(theirs), rel=1e-4)


def test_kl_with_a_class_that_one_cannot_name() -> None:
    wide = Predicted("wide", torch.zeros(2, 3), torch.zeros(2), torch.arange(2))
    narrow = Predicted("narrow", torch.tensor([[0.0, 0.0, -torch.inf]] * 2), torch.zeros(2), torch.arange(2))
    numbers = KullbackLeibler()(wide, narrow)
    assert numbers["kl"].value == pytest.approx(np.log(1.5))
    assert numbers["reverse_kl"].value == np.inf
    fewer = Predicted("fewer", torch.zeros(2, 2), torch.zeros(2), torch.arange(2))
    with pytest.raises(ValueError, match="same classes, not 3 and 2"):
        KullbackLeibler()(wide, fewer)


@given(st.integers(0, 10_000), st.floats(0.1, 10))
@settings(max_examples=30, deadline=None)
def test_kl_is_never_negative_and_zero_at_equality(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    first, second = (
        Predicted(name, scale * torch.randn(6, 4, generator=generator), torch.zeros(6), torch.arange(6))
        for name in "ab"
    )
    numbers = KullbackLeibler()(first, second)
    assert min(numbers["kl"].value, numbers["reverse_kl"].value) >= 0
    shifted = Predicted("shifted", first.logits + 3, first.labels, first.ids)
    assert KullbackLeibler()(first, shifted)["kl"].value == pytest.approx(0, abs=1e-6)


def test_retention_is_recall_of_what_the_source_knew(student: Predicted, teacher: Predicted) -> None:
    from sklearn.metrics import recall_score

    numbers = Retention()(student, teacher)
    known, right = teacher.correct.numpy(), student.correct.numpy()
    assert numbers["kept"].value == pytest.approx(recall_score(known, right))
    assert numbers["kept"].value + numbers["lost"].value == pytest.approx(1)
    assert numbers["kept"].n == known.sum()
    sizes = {label: int((known & (student.labels.numpy() == label)).sum()) for label in range(10)}
    weighted = sum(numbers[f"kept_class_{label}"].value * size for label, size in sizes.items()) / known.sum()
    assert weighted == pytest.approx(numbers["kept"].value)
    assert Retention()(teacher, teacher)["lost"].value == 0.0


def test_retention_of_nothing_is_not_a_number() -> None:
    wrong = Predicted("wrong", torch.tensor([[1.0, 0.0]]), torch.tensor([1]), torch.tensor([0]))
    assert Retention()(wrong, wrong) == {}


def test_membership_agrees_with_scikit_learn(predict, student: Predicted) -> None:
    from sklearn.metrics import roc_auc_score

    train = predict("small", "small")
    number = Membership()(student, None, train=train)["membership_auc"]
    member = np.concatenate([np.ones(len(train)), np.zeros(len(student))])
    losses = np.concatenate([train.losses.numpy(), student.losses.numpy()])
    assert number.value == pytest.approx(roc_auc_score(member, -losses))
    assert inside(number)
    # A model that memorised 150 samples is told apart; its own test samples among themselves are not.
    assert number.low > 0.5
    halves = auc_interval(-student.losses.numpy()[::2], -student.losses.numpy()[1::2])
    assert halves.low < 0.5 < halves.high


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.lists(st.integers(0, 5), min_size=1, max_size=30))
@settings(max_examples=40, deadline=None)
def test_the_area_counts_ties_half(left: list[int], right: list[int]) -> None:
    a, b = np.array(left, dtype=float), np.array(right, dtype=float)
    wins = (a[:, None] > b).mean() + 0.5 * (a[:, None] == b).mean()
    assert auc_interval(a, b, resamples=10).value == pytest.approx(wins)


def test_a_diverged_model_is_measured_without_a_crash() -> None:
    broken = Predicted("broken", torch.full((8, 3), torch.nan), torch.zeros(8), torch.arange(8))
    fine = Predicted("fine", torch.eye(3)[[0, 1, 2, 0, 1, 2, 0, 1]], torch.zeros(8), torch.arange(8))
    assert Accuracy()(broken)["accuracy"].value == 0.0
    assert np.isnan(NegativeLogLikelihood()(broken)["nll"].value)
    assert Agreement()(broken, broken)["agreement"].value == 0.0
    assert np.isnan(Membership()(broken, train=fine)["membership_auc"].value)


def test_a_measure_that_compares_needs_something_to_compare_with(student: Predicted) -> None:
    for measure in (Agreement(), KullbackLeibler(), Retention()):
        assert measure.requires_source
        with pytest.raises(ValueError, match="there is none"):
            measure(student, None)
