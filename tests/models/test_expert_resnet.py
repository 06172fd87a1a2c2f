"""Experts of different depths: shapes, what each looks back to, cosine heads, and which heads predict."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cosine_similarity

from tutelage.data.batch import DataInfo
from tutelage.models.expert_resnet import CosineHead, ExpertResNet
from tutelage.models.resnet import ResNet
from tutelage.models.standard import parameters_of
from tutelage.models.taps import Taps
from tutelage.recipe.errors import InputError

INFO = DataInfo((1, 9, 8), 4, tuple("abcd"), "")


def test_a_cosine_head_sees_directions_only():
    head, embedding = CosineHead(5, 3, 30.0), torch.randn(7, 5)
    expected = 30 * cosine_similarity(embedding[:, None], head.weight[None], dim=-1)
    assert torch.allclose(head(embedding), expected, atol=1e-5)
    assert torch.allclose(head(embedding), head(4 * embedding), atol=1e-5)
    assert torch.isfinite(head(torch.zeros(2, 5))).all()


def test_the_papers_size():
    model = ExpertResNet(DataInfo((3, 32, 32), 100, tuple(map(str, range(100))), ""))
    plain = ResNet(DataInfo((3, 32, 32), 100, tuple(map(str, range(100))), ""), depth=32)
    last = parameters_of(plain.blocks[2])
    # Adapters: of stage 2 one convolution, of stage 1 two; each with its normalisation.
    one, two = 64 * 32 * 9 + 128, 32 * 16 * 9 + 64 + 64 * 32 * 9 + 128
    shared = parameters_of(plain) - last - 6500
    assert parameters_of(model) == shared + 3 * last + (2 * two + one) + 6 * 6400


@pytest.mark.parametrize("fusion", ["product", "sum", "none"])
def test_an_expert_is_its_map_and_what_it_looks_back_to(fusion):
    model = ExpertResNet(INFO, depth=8, width=4, fusion=fusion).eval()
    taps = Taps(model, ["blocks.*", "experts.*", "features", "embedding", "heads.*"])
    logits = model(torch.rand(3, 1, 9, 8))
    seen = taps.collect()
    for i, depth in enumerate((0, 1, 0)):
        own = seen[f"experts.{i}"]
        if fusion != "none":
            adapted = model.adapters[i](seen[f"blocks.{depth}"])
            assert adapted.shape == own.shape == (3, 16, 3, 2)
            own = own * adapted if fusion == "product" else own + adapted
        assert torch.allclose(seen["features"][:, 16 * i : 16 * i + 16], own, atol=1e-6)
        assert torch.allclose(model.heads[i](own.mean((2, 3))), seen[f"heads.{i}"], atol=1e-5)
    assert torch.allclose(seen["embedding"], seen["features"].mean((2, 3)))
    assert torch.allclose(logits, sum(seen[f"heads.{i}"] for i in range(3)) / 3, atol=1e-5)


def test_adapters_end_without_a_relu():
    model = ExpertResNet(INFO, depth=8, width=4)
    kinds = [[type(part).__name__ for part in adapter] for adapter in model.adapters]
    assert kinds[0] == ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d"]
    assert kinds[1] == ["Conv2d", "BatchNorm2d"]


def test_balanced_heads_predict_once_it_is_balanced_and_that_is_saved():
    model = ExpertResNet(INFO, depth=8, width=4, experts=2).eval()
    inputs = torch.rand(3, 1, 9, 8)
    before = model(inputs)
    model.balance()
    after = model(inputs)
    assert not torch.allclose(before, after)
    other = ExpertResNet(INFO, depth=8, width=4, experts=2).eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(inputs), after)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ({"depth": 9}, "expert-resnet: depth must be 6n"),
        ({"experts": 2, "taps": (1, 2, 1)}, "3 taps for 2 experts"),
    ],
)
def test_refused(args, text):
    with pytest.raises(InputError, match=text):
        ExpertResNet(INFO, **args)
