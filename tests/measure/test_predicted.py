from __future__ import annotations

import numpy as np
import pytest
import torch

from tutelage.measure import Predicted


def test_probabilities_are_distributions(student: Predicted) -> None:
    assert torch.allclose(student.probabilities.sum(dim=1), torch.ones(len(student), dtype=torch.float64))
    assert torch.equal(student.classes, student.probabilities.argmax(dim=1))


def test_a_nan_output_is_never_right() -> None:
    logits = torch.tensor([[float("nan"), 0.0], [1.0, 0.0], [float("inf"), 0.0]])
    predicted = Predicted("diverged", logits, torch.zeros(3, dtype=torch.int64), torch.arange(3))
    assert predicted.correct.tolist() == [False, True, False]


def test_a_class_the_model_cannot_name_has_probability_zero() -> None:
    predicted = Predicted("narrow", torch.tensor([[0.0, 0.0, -torch.inf]]), torch.tensor([0]), torch.tensor([0]))
    assert predicted.probabilities[0].tolist() == pytest.approx([0.5, 0.5, 0.0])


def test_alignment_restores_the_order(student: Predicted, teacher: Predicted) -> None:
    order = torch.as_tensor(np.random.default_rng(0).permutation(len(student)))
    shuffled = Predicted("student", student.logits[order], student.labels[order], student.ids[order])
    back = shuffled.aligned_to(teacher)
    assert torch.equal(back.logits, student.logits)
    assert torch.equal(shuffled.aligned_to(shuffled).logits, shuffled.logits)


def test_other_samples_and_other_labels_are_refused(student: Predicted) -> None:
    elsewhere = Predicted("elsewhere", student.logits, student.labels, student.ids + 1)
    with pytest.raises(ValueError, match="different samples"):
        student.aligned_to(elsewhere)
    relabelled = Predicted("relabelled", student.logits, (student.labels + 1) % 10, student.ids)
    with pytest.raises(ValueError, match="different labels"):
        student.aligned_to(relabelled)


@pytest.mark.parametrize(
    ("logits", "labels", "match"),
    [
        (np.zeros((2,)), [0, 0], r"\[n, classes\]"),
        (np.zeros((0, 3)), [], "n >= 1"),
        (np.zeros((2, 3)), [0], r"labels .* must be \[2\]"),
        (np.zeros((2, 3)), [0, 3], r"must lie in \[0, 3\)"),
        (np.zeros((2, 3)), [-1, 0], r"must lie in \[0, 3\)"),
    ],
)
def test_misshapen_predictions_are_refused(logits: np.ndarray, labels: list[int], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Predicted("wrong", logits, labels, np.arange(len(labels)))
