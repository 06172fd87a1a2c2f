from __future__ import annotations

import math

import pytest
import torch

from tutelage.measure.complementary import flip_pairs, flipped_classes, flips, transfer_by_classes, transferred


def right(*values):
    return torch.tensor(values, dtype=torch.bool)


# The card's eight samples.
TEACHER, STUDENT = right(1, 1, 0, 0, 1, 0, 1, 1), right(1, 0, 1, 0, 0, 1, 1, 0)
AFTER = right(1, 1, 1, 0, 0, 1, 1, 0)


def test_the_worked_example():
    found = flips(TEACHER, STUDENT)
    assert (found["positive"].value, found["negative"].value) == (0.375, 0.25)
    moved = transferred(TEACHER, STUDENT, AFTER)
    assert moved["transfer_rate"].value == pytest.approx(1 / 3)
    assert moved["loss"].value == 0
    assert moved["delta"].value == pytest.approx(0.125)
    assert moved["delta"].value == pytest.approx(moved["gain"].value - moved["loss"].value)


def test_every_pair_is_seen_from_both_sides():
    first, second = flip_pairs({"a": TEACHER, "b": STUDENT})
    assert first == {
        "source": "a",
        "recipient": "b",
        "positive": 0.375,
        "negative": 0.25,
        "accuracy_difference": 0.125,
    }
    assert (second["source"], second["positive"], second["accuracy_difference"]) == ("b", 0.25, -0.125)


def test_a_source_that_knows_nothing_more_has_no_transfer_rate():
    assert "transfer_rate" not in transferred(STUDENT & TEACHER, STUDENT, AFTER)


def test_classes_by_flips():
    labels = torch.tensor([0, 0, 0, 2, 2, 3, 1, 1])
    positive = right(1, 1, 1, 1, 0, 0, 0, 0)
    rows, entropy = flipped_classes(positive, labels, ("a", "b", "c", "d"))
    assert [(row["class"], row["flips"]) for row in rows] == [("a", 3), ("c", 1)]
    assert entropy == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert flipped_classes(right(*[0] * 8), labels, ("a", "b", "c", "d")) == ([], 0.0)
    parts = transfer_by_classes(positive, right(1, 1, 0, 0, 0, 0, 0, 0), labels)
    assert parts == [
        {"classes": "0-50 %", "flips": 3, "transfer_rate": pytest.approx(2 / 3)},
        {"classes": "50-100 %", "flips": 1, "transfer_rate": 0.0},
    ]
