"""Every builder: shapes, standard taps, sizes, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tutelage.data.batch import DataInfo
from tutelage.models.convnet import ConvNet
from tutelage.models.mlp import MLP
from tutelage.models.participant import Participant
from tutelage.models.resnet import ResNet
from tutelage.models.standard import parameters_of
from tutelage.models.taps import Taps
from tutelage.models.vit import ViT
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import registry

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32)]
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": (16, 12), "dropout": 0.1},
    "convnet": {"width": 4},
    "resnet": {"depth": 8, "width": 4},
    "vit": {"dim": 16, "depth": 2, "heads": 2},
}


def _info(shape: tuple[int, ...], classes: int = 10) -> DataInfo:
    return DataInfo(shape, classes, tuple(map(str, range(classes))), "")


def _build(name: str, info: DataInfo, **args: Any) -> nn.Module:
    module: nn.Module = registry().load("model", name)(info, **{**SMALL[name], **args})
    return module


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", SMALL)
def test_standard_taps(name: str, shape: tuple[int, ...]) -> None:
    """Logits are the classifier applied to the embedding, and the embedding is a reading of the features."""
    module = _build(name, _info(shape, 7)).eval()
    taps = Taps(module, ["embedding", "features", "classifier"])
    logits = module(torch.rand(3, *shape))
    seen = taps.collect()
    head = module.get_submodule("head")
    assert logits.shape == (3, 7)
    assert torch.equal(seen["classifier"], logits)
    assert torch.equal(head(seen["embedding"]), logits)
    features = seen["features"]
    if name == "mlp":
        expected = features
    elif name == "vit":
        assert features.ndim == 3
        expected = features.mean(1)
    else:
        assert features.ndim == 4
        expected = features.mean((2, 3))
    assert torch.allclose(seen["embedding"], expected)


@pytest.mark.parametrize("name", SMALL)
def test_gradients_reach_every_parameter(name: str) -> None:
    module = _build(name, _info((1, 8, 8))).train()
    module(torch.rand(8, 1, 8, 8)).logsumexp(1).sum().backward()
    without = [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    # Normalisation after it takes the bias of a convolution out; none has one.
    assert without == []


@pytest.mark.parametrize("name", [name for name in SMALL if name != "mlp"])
def test_tables_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=rf"'{name}' takes images.*\[5\].*'mlp'"):
        _build(name, _info((5,)))


def test_mlp_takes_tables_and_no_hidden_layer() -> None:
    module = MLP(_info((5,), 3), hidden=())
    assert parameters_of(module) == 5 * 3 + 3
    assert module(torch.rand(2, 5)).shape == (2, 3)


def test_a_narrow_convnet_has_at_most_a_fifth() -> None:
    wide, narrow = (parameters_of(ConvNet(_info((1, 8, 8)), width=width)) for width in (64, 8))
    assert narrow < wide / 5


@pytest.mark.parametrize("batch_norm", [True, False])
def test_convnet_normalises_only_where_asked(batch_norm: bool) -> None:
    module = ConvNet(_info((1, 8, 8)), width=2, batch_norm=batch_norm)
    assert any(isinstance(part, nn.BatchNorm2d) for part in module.modules()) is batch_norm
    assert [
        tuple(block(torch.rand(1, c, 8, 8)).shape[1:]) for block, c in zip(module.blocks, (1, 2, 4), strict=True)
    ] == [
        (2, 8, 8),
        (4, 4, 4),
        (8, 4, 4),
    ]


@pytest.mark.slow
def test_a_convnet_learns_digits() -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images, labels = torch.tensor(bunch.images / 16.0).float().unsqueeze(1), torch.tensor(bunch.target)
    torch.manual_seed(0)
    module = ConvNet(_info((1, 8, 8)), width=8)
    optimizer = torch.optim.AdamW(module.parameters(), lr=5e-3)
    for _ in range(6):
        for index in torch.randperm(1437).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(images[index]), labels[index]).backward()
            optimizer.step()
    predict = Participant("student", module, trainable=True).predict
    assert (predict(images[1437:]).argmax(1) == labels[1437:]).float().mean() > 0.93


@pytest.mark.parametrize(("depth", "count"), [(20, 269_722), (32, 464_154), (56, 853_018)])
def test_resnet_is_the_papers(depth: int, count: int) -> None:
    """Table 6 of arXiv:1512.03385: 0.27 M, 0.46 M and 0.85 M parameters with shortcuts that have none."""
    with torch.device("meta"):
        assert parameters_of(ResNet(_info((3, 32, 32)), depth=depth)) == count


def test_resnet_refuses_other_depths() -> None:
    with pytest.raises(InputError, match="6n \\+ 2, not 18; the nearest are 14 and 20"):
        ResNet(_info((3, 32, 32)), depth=18)


@pytest.mark.parametrize(("patch", "tokens"), [(2, 16), (4, 4), ((1, 8), 8), ((8, 1), 8)])
@pytest.mark.parametrize("pool", ["mean", "token"])
def test_vit_hidden_states(patch: Any, tokens: int, pool: Any) -> None:
    module = ViT(_info((1, 8, 8)), patch=patch, dim=8, depth=3, heads=2, pool=pool)
    taps = Taps(module, ["blocks.*", "embedding"])
    module(torch.rand(2, 1, 8, 8))
    seen = taps.collect()
    assert list(seen) == ["blocks.0", "blocks.1", "blocks.2", "embedding"]
    assert {tuple(seen[f"blocks.{i}"].shape) for i in range(3)} == {(2, tokens + (pool == "token"), 8)}


def test_vit_reads_rows_top_to_bottom() -> None:
    """A change in one row of pixels changes one token."""
    module = ViT(_info((1, 8, 8)), patch=(1, 8), dim=8, depth=1, heads=1)
    one, other = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    other[:, :, 5] = 1.0
    taps = Taps(module, ["dropout"])
    changed = []
    for image in (one, other):
        module(image)
        changed.append(taps.collect()["dropout"])
    assert (changed[0] - changed[1]).abs().sum(2).nonzero()[:, 1].tolist() == [5]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"patch": 3}, "patch of height 3 does not divide the image's 8; use 1, 2, 4, 8"),
        ({"patch": (1, 5)}, "patch of width 5 does not divide"),
        ({"dim": 10, "heads": 4}, "4 heads do not divide dim 10; use 1, 2, 5, 10"),
    ],
)
def test_vit_refuses_what_does_not_divide(args: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ViT(_info((1, 8, 8)), **args)


def test_vit_drops_in_training_only() -> None:
    module = ViT(_info((1, 8, 8)), dim=16, depth=2, heads=2, dropout=0.5)
    images = torch.rand(2, 1, 8, 8)
    assert not torch.equal(module(images), module(images))
    module.eval()
    assert torch.equal(module(images), module(images))
