"""Trainee-mentor: the controls, guidance that ends, what was recovered, the probes."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from tutelage.distill.trainee_mentor import TraineeMentor
from tutelage.recipe.errors import InputError, RecipeError
from tutelage.recipe.loading import load_recipe

PLAIN = {"model": "plain", "of": {"model": "resnet", "depth": 8, "width": 2}}
SMALL = {"name": "digits", "limit": 64}
QUIET = {"name": "trainee-mentor", "probes": []}


class Deep(nn.Module):
    """Blocks of a linear layer, batch normalisation and the identity, on flattened inputs."""

    def __init__(self, data, *, depth=4, width=24):
        super().__init__()
        self.stem = nn.Sequential(nn.Flatten(), nn.Linear(64, width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.head = nn.Linear(width, data.classes)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.residual = True
        self.inner = nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width))

    def forward(self, x):
        return torch.relu(self.inner(x) + (x if self.residual else 0))


def stage_weights(finished, name):
    from tutelage.engine import checkpoint

    end = next((finished.folder / "stages" / name / "end").glob("step-*"))
    return checkpoint.load(end)[1]["models"]["student"]


def same(a, b):
    return all(torch.equal(a[key], b[key]) for key in a)


def test_without_guidance_it_is_training_on_labels_bit_for_bit(recipe, go, weights):
    finished = go(recipe({**QUIET, "kd_epochs": 0}, student=PLAIN, data=SMALL))
    assert same(weights(finished), stage_weights(finished, "plain-labels"))
    taught = go(recipe({**QUIET, "kd_epochs": 1}, student=PLAIN, data=SMALL))
    assert not same(weights(taught), stage_weights(taught, "plain-labels"))


def test_guidance_for_all_epochs_is_plain_distillation(recipe, go, weights):
    everything = weights(go(recipe(QUIET, student=PLAIN, data=SMALL)))
    assert same(everything, weights(go(recipe({**QUIET, "kd_epochs": 2}, student=PLAIN, data=SMALL))))
    again = recipe({"name": "kd", "alpha": 0.1}, student=PLAIN, data=SMALL)
    assert same(everything, weights(go(again)))


def test_the_control_is_the_one_that_other_methods_have(recipe, go):
    finished = go(recipe(QUIET, student=PLAIN, data=SMALL))
    other = go(recipe("kd", student=PLAIN, baseline=True, data=SMALL))
    name = next(p.name for p in (other.folder / "stages").iterdir() if p.name not in ("teacher", "transfer"))
    assert same(stage_weights(finished, "plain-labels"), stage_weights(other, name))


@pytest.mark.parametrize(("handover", "epochs"), [("reset", 1), ("restart", 2)])
def test_a_handover_starts_again_from_guided_weights(handover, epochs, recipe, go, weights):
    finished = go(recipe({**QUIET, "kd_epochs": 1, "handover": handover}, student=PLAIN, data=SMALL))
    history = json.loads((finished.folder / "stages" / "plain-teacher" / "record.json").read_text())["history"]
    assert len(history) == epochs
    assert list(history[0]["losses"]) == ["train/task"] or all("transfer" not in k for k in history[0]["losses"])
    assert not same(weights(finished), stage_weights(finished, "plain-teacher-guided"))


def test_what_was_recovered(recipe, go):
    method = {**QUIET, "depths": [14], "guidance": [0, 1], "residual_too": True}
    mentor = {"model": "mlp", "hidden": [4], "weights": {"train": {"epochs": 1}}}
    finished = go(recipe(method, student=PLAIN, mentor=mentor, epochs=2, data=SMALL))
    found = finished.report["findings"]
    networks = {(row["depth"], row["network"], row["training"]): row for row in found["networks"]}
    assert len(networks) == 2 * 7
    rows = {row["name"]: row["measures"]["quality"]["accuracy"]["value"] for row in finished.report["rows"]}
    assert networks[8, "plain", "teacher"]["accuracy"] == pytest.approx(rows["student"])
    assert networks[8, "residual", "labels"]["accuracy"] == pytest.approx(rows["residual student on labels"])
    # Without guidance: the labels' own training.
    assert networks[8, "plain", "teacher, 0 epochs"]["accuracy"] == networks[8, "plain", "labels"]["accuracy"]
    for row in found["depths"]:
        residual, plain, taught = (
            networks[row["depth"], *cell]["accuracy"]
            for cell in (("residual", "labels"), ("plain", "labels"), ("plain", row["teacher"]))
        )
        assert row["drop"] == pytest.approx(residual - plain)
        assert row["surplus"] == pytest.approx(taught - residual)
        assert row["recovered"] is None or row["recovered"] == pytest.approx((taught - plain) / (residual - plain))
        of_teacher = rows[row["teacher"]]
        order = {-1: "inferior", 0: "equal", 1: "superior"}
        assert row["quality"] == order[(of_teacher > residual) - (of_teacher < residual)]
    assert [row["depth"] for row in found["guidance_needed"]] == [8, 14]


def test_probes_look_at_every_network(recipe, go):
    method = {"name": "trainee-mentor", "landscape_steps": 3, "probe_samples": 64}
    found = go(recipe(method, student=PLAIN, epochs=1, data=SMALL)).report["findings"]
    cells = ["residual labels", "plain labels", "plain teacher"]
    assert [row["network"] for row in found["landscape"]] == cells
    assert [row["position"] for row in found["landscape_line"]] == [-1, 0, 1]
    assert [row["network"] for row in found["gradients"]] == cells
    assert all(-1 <= row["cosine"] <= 1 for row in found["gradients"])
    assert all(0 <= row[cell] <= 1.0001 for row in found["consecutive_cka"] for cell in cells)
    assert [row["network"] for row in found["blocks"]] == cells
    assert all("drop" in row for row in found["blocks"])


@pytest.mark.slow
def test_deep_networks_need_skip_connections_and_shallow_ones_do_not(recipe, go):
    """The card's experiment: L = 4 holds with a teacher, L = 30 does not come near its residual twin."""
    deep = {"model": "plain", "of": {"model": f"{__name__}:Deep", "depth": 4, "width": 24}}
    teacher = {"model": "mlp", "hidden": [256], "weights": {"train": {"epochs": 30}}}
    method = {**QUIET, "depths": [30]}
    data = {"name": "digits", "limit": 600}
    mapping = recipe(method, student=deep, teacher=teacher, data=data, epochs=25, batch_size=100)
    found = go(mapping).report["findings"]
    by_depth = {row["depth"]: row for row in found["depths"]}
    assert by_depth[4]["surplus"] >= -0.03
    assert by_depth[30]["surplus"] <= -0.20
    assert by_depth[30]["drop"] > 0.2


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"student": {"model": "resnet", "depth": 8}}, "to have no skip connections"),
        ({"student": {"model": "plain", "of": "convnet"}}, "'convnet' has no skip connections"),
        ({"student": {**PLAIN, "remove": "frist"}}, "expected 'all'"),
        ({"student": {**PLAIN, "weights": {"train": {"epochs": 1}}}}, "starts anew"),
        ({"handover": "reset"}, "guidance that ends before"),
        ({"handover": "reset", "kd_epochs": 2}, "between 1 and 1"),
        ({"landscape_steps": 4}, "must be odd"),
        ({"stages": [{"train": {"epochs": 1}}]}, "makes its own stages"),
        ({"teacher": {"model": "mlp"}}, "would teach noise"),
    ],
)
def test_mistakes(changes, text, recipe, go):
    keys = ("student", "stages", "teacher")
    method = {**QUIET, **{k: v for k, v in changes.items() if k not in keys}}
    whole = {"student": PLAIN, **{k: v for k, v in changes.items() if k in keys}}
    with pytest.raises((RecipeError, InputError), match=text):
        go(recipe(method, **whole))


def test_the_estimate_counts_all_networks(recipe):
    method = {**QUIET, "depths": [14], "guidance": [1], "residual_too": True}
    assert TraineeMentor.epochs(load_recipe(recipe(method, student=PLAIN, epochs=3))) == 2 * 5 * 3
