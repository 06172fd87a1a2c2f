"""Skip connections: what a block is without one, where they are removed, and that everything else stays."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tutelage.models.convnet import ConvNet
from tutelage.models.residuals import NoShortcut, Plain, remove_residuals, residual_blocks
from tutelage.models.resnet import ResNet
from tutelage.models.weights import describe, load_model, save_weights
from tutelage.recipe.errors import InputError
from tutelage.recipe.spec import Spec


class Basic(nn.Module):
    """As torchvision builds it."""

    def __init__(self, downsample):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.downsample = downsample

    def forward(self, x):
        out = self.conv(x)
        out += x if self.downsample is None else self.downsample(x)
        return torch.relu(out)


class Layer(nn.Module):
    """As transformers builds it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(2, 2, 1)
        self.shortcut = nn.Identity()

    def forward(self, x):
        return torch.relu(self.layer(x) + self.shortcut(x))


def test_a_block_that_adds_nothing_gives_nothing(info):
    model = ResNet(info, depth=8, width=4).eval()
    block = model.blocks[0][0]
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(block(x), torch.relu(x))
    remove_residuals(model)
    assert torch.equal(block(x), torch.zeros_like(x))


@pytest.mark.parametrize("block", [Basic(None), Basic(nn.Conv2d(2, 2, 1)), Layer()], ids=["none", "projection", "hub"])
def test_blocks_of_others(block):
    model = nn.Sequential(block, nn.ReLU())
    x = torch.randn(2, 2, 4, 4)
    inner = block.conv(x) if isinstance(block, Basic) else block.layer(x)
    projected = isinstance(getattr(block, "downsample", None), nn.Conv2d)
    assert residual_blocks(model) == ["0"]
    assert remove_residuals(model) == (6 if projected else 0)
    assert torch.equal(model(x), torch.relu(inner))
    assert residual_blocks(model) == ["0"]


def test_a_model_without_blocks_is_left_as_it_is(info, inputs):
    model = ConvNet(info, width=4).eval()
    before = model(inputs)
    assert remove_residuals(model) == 0
    assert torch.equal(model(inputs), before)


@pytest.mark.parametrize(
    ("remove", "left"),
    [("all", [False] * 6), ("last:2", [True] * 4 + [False] * 2), ("alternate", [True, False] * 3)],
)
def test_where_they_are_removed(remove, left, info):
    model = ResNet(info, depth=14, width=2)
    remove_residuals(model, remove)
    assert [model.get_submodule(path).residual for path in residual_blocks(model)] == left


def test_a_plain_network_starts_as_its_residual_twin_and_comes_back_from_disk(info, inputs, tmp_path):
    spec = Spec("model", "resnet", {"depth": 8, "width": 4})
    torch.manual_seed(0)
    twin = ResNet(info, depth=8, width=4).eval()
    torch.manual_seed(0)
    plain = Plain(info, of=spec).eval()
    assert all(torch.equal(a, b) for a, b in zip(twin.parameters(), plain.parameters(), strict=True))
    assert not torch.allclose(twin(inputs), plain(inputs))
    other = copy.deepcopy(twin)
    remove_residuals(other)
    assert torch.equal(other(inputs), plain(inputs))
    save_weights(plain, tmp_path, describe("plain", {"of": spec, "remove": "all"}, info))
    assert torch.equal(load_model(tmp_path)(inputs), plain(inputs))


def test_nothing_to_remove_and_no_such_place(info):
    with pytest.raises(InputError, match="'convnet' has no skip connections"):
        Plain(info, of=Spec("model", "convnet", {}))
    with pytest.raises(InputError, match="'alternate', or 'last:'"):
        remove_residuals(ResNet(info, depth=8), "first")


def test_a_missing_shortcut_is_zero_in_any_shape():
    assert (torch.ones(2, 3, dtype=torch.float64) + NoShortcut()(torch.ones(1, dtype=torch.float64))).sum() == 6
