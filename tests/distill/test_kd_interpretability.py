"""KD and interpretability: the controls' targets, what is looked at, and that nobody untrained detects anything."""

from __future__ import annotations

import math

import pytest
import torch

from tutelage.data.batch import Batch
from tutelage.distill.kd_interpretability import Permuted, Smoothed, captured_maps
from tutelage.engine.method import Step
from tutelage.losses import cross_entropy, entropy
from tutelage.models.outputs import Outputs
from tutelage.models.vit import ViT
from tutelage.recipe.errors import InputError, RecipeError

CONV = {
    "teacher": {"model": "convnet", "width": 4, "depth": 2, "weights": {"train": {"epochs": 2, "batch_size": 32}}},
    "student": {"model": "convnet", "width": 3, "depth": 2},
    "data": {"name": "shapes", "count": 240, "size": 16},
}


def test_smoothed_labels():
    logits, labels = torch.randn(4, 5), torch.tensor([0, 3, 2, 4])
    batch = Batch(torch.zeros(4, 1), labels, torch.arange(4), torch.arange(4))
    step = Step(batch, {"student": lambda _: Outputs(logits)}, 0, 0, 0.0)
    found = Smoothed(0.2).task(step)["task"]
    expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.2, reduction="none")
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(Smoothed(0.0).task(step)["task"], cross_entropy(logits, labels))


def test_a_permuted_teacher_is_as_soft_and_says_something_else():
    teacher, student = torch.randn(30, 6), torch.zeros(30, 6)
    batch = Batch(torch.zeros(30, 1), torch.zeros(30, dtype=torch.int64), torch.arange(30), torch.arange(30) + 9)
    method = Permuted(temperature=2.0, alpha=0.0)
    # From a uniform student, the divergence is log(classes) less the teacher's entropy, whatever the order.
    found = method.loss(Outputs(student), Outputs(teacher), batch)["transfer"]
    expected = 4.0 * (math.log(6) - entropy(teacher / 2.0))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    other = torch.randn(30, 6)
    mixed = method.loss(Outputs(other), Outputs(teacher), batch)["transfer"]
    again = method.loss(Outputs(other), Outputs(teacher), batch.with_(seeds=torch.arange(30)))["transfer"]
    straight = super(Permuted, method).loss(Outputs(other), Outputs(teacher), batch)["transfer"]
    assert torch.equal(mixed, again)
    assert not torch.allclose(mixed, straight)


def test_layers_of_tokens_have_maps(recipe):
    from tutelage.data.batch import DataInfo

    net = ViT(DataInfo((1, 8, 8), 4, tuple("abcd"), ""), patch=2, dim=6, depth=1, heads=2, pool="token")
    assert captured_maps(net, "blocks.0", torch.rand(5, 1, 8, 8), batch_size=2).shape == (5, 6, 4, 4)


def test_every_network_is_looked_at(recipe, go):
    method = {
        "name": "kd-interpretability",
        "concept_images": 40,
        "controls": ["smoothing", "permuted", "untrained"],
        "temperatures": [20.0],
        "measures": ["dissection", "similarity", "bands", "edges", "diffroar"],
        "superclasses": [[0, 1], [2, 3], [4, 5], [6, 7]],
    }
    report = go(recipe(method, **CONV, epochs=1)).report
    found = report["findings"]
    names = ["teacher", "student", "labels", "smoothing", "permuted", "temperature-20", "untrained"]
    for table in ("dissection", "class_similarity", "saliency"):
        assert [row["network"] for row in found[table]] == names
    assert found["dissection"][0]["units"] == 8
    assert all(row["detectors"] == row["detectors_object"] + row["detectors_texture"] for row in found["dissection"])
    assert sum(row["student"] for row in found["iou_histogram"]) == len(found["student_units"]) == 6
    assert found["class_similarity"][0]["correlation"] == pytest.approx(1.0)
    assert [row["temperature"] for row in found["soft_labels"]] == [1.0, 4.0, 20.0, 100.0]
    entropies = [row["entropy"] for row in found["soft_labels"]]
    assert entropies == sorted(entropies)
    assert all(row["diffroar"] == pytest.approx(row["most"] - row["least"]) for row in found["diffroar"])
    accuracy = {row["name"]: row["measures"]["quality"]["accuracy"]["value"] for row in report["rows"]}
    rows = {row["network"]: row["accuracy"] for row in found["dissection"]}
    assert accuracy["student"] == pytest.approx(rows["student"])
    assert accuracy["student without transfer"] == pytest.approx(rows["labels"])


@pytest.mark.slow
def test_trained_units_detect_and_untrained_ones_do_not(recipe, go):
    teacher = {"model": "convnet", "width": 12, "depth": 2, "weights": {"train": {"epochs": 12, "batch_size": 50}}}
    whole = {"teacher": teacher, "student": CONV["student"], "data": {"name": "shapes", "count": 700}}
    method = {"name": "kd-interpretability", "controls": ["untrained"], "measures": ["dissection"], "layer": "blocks"}
    found = go(recipe(method, **whole, epochs=1)).report["findings"]["dissection"]
    by_name = {row["network"]: row for row in found}
    assert by_name["teacher"]["detectors"] >= 3
    assert by_name["untrained"]["detectors"] == 0


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"layer": "blokcs"}, "blokcs"),
        ({"layer": "embedding"}, "no positions in the image"),
        ({"concepts": "/nowhere"}, "concepts.json cannot be read"),
        ({"data": {"name": "digits"}}, "at least 12 pixels"),
        ({"data": {"name": "shapes", "normalize": "data"}}, r"images in \[0, 1\]"),
        ({"objective": "supervised"}, "compares no teacher with a student"),
        ({"measures": ["disection"]}, "Did you mean 'dissection'"),
    ],
)
def test_mistakes(changes, text, recipe, go):
    whole = {**CONV, **{k: v for k, v in changes.items() if k in CONV}}
    method = {"name": "kd-interpretability", **{k: v for k, v in changes.items() if k not in CONV}}
    with pytest.raises((RecipeError, InputError), match=text):
        go(recipe(method, **whole))
