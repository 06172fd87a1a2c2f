"""QAT-KD: taps of attention, what is quantised and what is not, and outcomes of the two attention losses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tutelage import api
from tutelage.data.batch import Batch, DataInfo
from tutelage.distill.qat_kd import QATKD
from tutelage.engine.method import Room
from tutelage.models.convnet import ConvNet
from tutelage.models.participant import Participant
from tutelage.models.quantization import quantizers
from tutelage.models.taps import Taps
from tutelage.models.vit import ViT
from tutelage.models.weights import load_model
from tutelage.recipe.errors import InputError, RecipeError

INFO = DataInfo((1, 8, 8), 4, tuple("abcd"), "")
BATCH = Batch(torch.rand(5, 1, 8, 8), torch.zeros(5, dtype=torch.int64), torch.arange(5), torch.arange(5))
SIZE = {"patch": [1, 8], "dim": 16, "depth": 2, "heads": 2}


def vit(seed: int, **changes) -> ViT:
    torch.manual_seed(seed)
    return ViT(INFO, **{**SIZE, "patch": (1, 8), **changes})


def placed(method: QATKD, teacher: nn.Module | None = None, student: nn.Module | None = None):
    models = {"teacher": teacher or vit(0), "student": student or vit(1)}
    room = Room(models, INFO, BATCH, ["student"])
    method.setup(room)
    return {
        name: Participant(name, module, trainable=name == "student", taps=room.taps(name))
        for name, module in models.items()
    }


def outputs(participants):
    for one in participants.values():
        one.mode(True)
    return participants["student"](BATCH), participants["teacher"](BATCH)


def test_attention_can_be_looked_into_without_changing_what_comes_out():
    model = vit(0, dropout=0.0).eval()
    plain = model(BATCH.inputs)
    taps = Taps(model, ["blocks.*.attention.probabilities", "blocks.0.attention.scores", "blocks.0.attention.context"])
    looked = model(BATCH.inputs)
    seen = taps.collect()
    assert torch.allclose(looked, plain, atol=1e-6)
    maps = seen["blocks.1.attention.probabilities"]
    assert maps.shape == (5, 2, 8, 8)
    assert torch.allclose(maps.sum(-1), torch.ones(5, 2, 8), atol=1e-6)
    first = seen["blocks.0.attention.probabilities"]
    assert torch.allclose(seen["blocks.0.attention.scores"].softmax(-1), first)
    taps.remove()
    assert torch.equal(model(BATCH.inputs), plain)


def test_maps_are_seen_before_dropout():
    model = vit(0, dropout=0.5).train()
    taps = Taps(model, ["blocks.0.attention.probabilities"])
    model(BATCH.inputs)
    (maps,) = taps.collect().values()
    assert torch.allclose(maps.sum(-1), torch.ones(5, 2, 8), atol=1e-6)


def test_eight_bits_attend_nearly_as_the_teacher():
    method = QATKD(weight_bits=8, act_bits=None, output_coeff=1.0)
    student, teacher = outputs(placed(method))
    found = method.loss(student, teacher, BATCH)
    assert set(found) == {"prediction", "representation", "map", "output"}
    assert all(found[name].shape == (5,) for name in found)
    assert found["map"].max() < 1e-3


def test_the_student_starts_from_the_teacher_and_only_what_the_paper_says_is_quantised():
    participants = placed(QATKD())
    teacher, student = (participants[name].module for name in ("teacher", "student"))
    quantised = {name for name, part in student.named_modules() if quantizers(part)}
    inside = ("attention.mix", "attention.out", "mlp.0", "mlp.3")
    assert quantised == {f"blocks.{i}.{name}" for i in range(2) for name in inside} | {"patches"}
    for name, value in teacher.named_parameters():
        own = dict(student.named_parameters())
        path, _, leaf = name.rpartition(".")
        latent = own.get(name, own.get(f"{path}.parametrizations.{leaf}.original"))
        assert torch.equal(latent, value), name
    mix = student.blocks[0].attention.mix.weight
    assert [part.unique().numel() for part in mix.chunk(3)] == [3, 3, 3]
    assert mix.unique().numel() == 7
    assert student.patches.weight.flatten(1)[0].unique().numel() <= 3
    assert not quantizers(placed(QATKD(quantize_embedding=False))["student"].module.patches)


def test_gradients_reach_latent_weights_and_not_the_teacher():
    method = QATKD(output_coeff=1.0, score_coeff=1.0, context_coeff=1.0, sa_output_coeff=1.0)
    participants = placed(method)
    student, teacher = outputs(participants)
    found = method.loss(student, teacher, BATCH)
    assert set(found) == {"prediction", "representation", "map", "output", "score", "context", "sa_output"}
    found.total().backward()
    mine = participants["student"].module
    assert mine.blocks[0].mlp[0].parametrizations.weight.original.grad.abs().max() > 0
    assert all(p.grad is None for p in participants["teacher"].module.parameters())


def test_terms_are_sums_over_layers():
    both, first, second = (QATKD(attn_layers=layers) for layers in (None, [0], [1]))
    values = []
    for method in (both, first, second):
        student, teacher = outputs(placed(method))
        values.append(method.loss(student, teacher, BATCH)["map"])
    assert torch.allclose(values[0], values[1] + values[2], atol=1e-6)


def test_ternary_weights_follow_the_latent_ones_of_this_step():
    student = placed(QATKD())["student"].module
    layer = student.blocks[0].attention.out
    before = layer.weight.detach().clone()
    with torch.no_grad():
        layer.parametrizations.weight.original.mul_(2)
    assert torch.allclose(layer.weight, 2 * before)


TEACHER = {"model": "vit", **SIZE, "weights": {"train": {"epochs": 15, "batch_size": 50, "optimizer": "adam"}}}


@pytest.fixture
def ternary(recipe):
    def make(epochs=3, **method):
        content = recipe(
            {"name": "qat-kd", "act_bits": None, **method},
            teacher={**TEACHER, "heads": 4},
            student={"model": "vit", **SIZE, "heads": 4},
            data={"name": "digits", "limit": 600},
        )
        content["train"] |= {"epochs": epochs, "batch_size": 50, "optimizer": {"name": "adam", "lr": 2e-3}}
        return content

    return make


@pytest.mark.slow
def test_each_attention_loss_brings_what_it_measures_nearer(ternary, go):
    variants = {
        "none": {"map_coeff": 0.0},
        "map": {"map_coeff": 10.0},
        "output": {"map_coeff": 0, "output_coeff": 10.0},
    }
    found = {}
    for name, method in variants.items():
        report = go(ternary(**method)).report
        rows = report["findings"]["attention"]
        found[name] = {key: sum(row[key] for row in rows) for key in ("map KL", "output MSE")}
        assert report["findings"]["packed bytes"] < report["findings"]["bytes of the teacher"] / 4
    assert found["map"]["map KL"] < found["none"]["map KL"]
    assert found["output"]["output MSE"] == min(one["output MSE"] for one in found.values())


@pytest.mark.slow
def test_an_interrupted_run_ends_alike_and_the_model_is_saved_with_its_few_levels(ternary, tmp_path):
    from tests.engine.conftest import InterruptAt, same, stage_end

    from tutelage.engine.stopping import Interrupted

    content = ternary(epochs=2, curvature=True)
    whole = api.run(content, run_dir=tmp_path / "whole")
    with pytest.raises(Interrupted):
        api.run(content, run_dir=tmp_path / "pieces", listener=InterruptAt("transfer", 15))
    pieces = api.resume(tmp_path / "pieces")
    one, two = (stage_end(done.folder, "transfer") for done in (whole, pieces))
    assert same(one["models"]["student"], two["models"]["student"])
    assert whole.report["findings"] == pieces.report["findings"]
    assert "student's largest curvature" in whole.report["findings"]["attention"][-1]
    (whole.folder / "report.json").unlink()
    assert api.resume(whole.folder).report["findings"] == pieces.report["findings"]
    saved = load_model(whole.folder / "model")
    assert saved.blocks[0].mlp[0].weight.unique().numel() == 3


def test_another_shape_is_refused(recipe, go):
    with pytest.raises(InputError, match=r"they differ in 'blocks\.2"):
        placed(QATKD(), vit(0, depth=3))
    with pytest.raises(InputError, match="is no block; there are 2"):
        placed(QATKD(attn_layers=[2]))
    with pytest.raises(InputError, match=r"'blocks\.0' has no 'attention\.mix'"):
        placed(QATKD(), ConvNet(INFO, width=2), ConvNet(INFO, width=2))
    with pytest.raises(RecipeError, match=r"weight_bits: found 3"):
        go(recipe({"name": "qat-kd", "weight_bits": 3}))
