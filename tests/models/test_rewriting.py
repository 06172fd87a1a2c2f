"""Rewriting: what passes a place is replaced for as long as a block lasts, and masks are what they say."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tutelage.models.paths import Place
from tutelage.models.rewriting import FeatureMask, rewritten
from tutelage.recipe.errors import InputError


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval()


INPUTS = torch.randn(5, 4)


def hooks(module: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


def test_what_is_changed_goes_on_and_nothing_is_left_behind() -> None:
    net = model()
    plain = net(INPUTS)
    for place in (Place("1"), Place("2", "input")):
        with rewritten(net, place, lambda value: value * 0):
            assert torch.allclose(net(INPUTS), net[2].bias.expand(5, 3))
        assert hooks(net) == 0
        assert torch.equal(net(INPUTS), plain)


def test_it_is_gone_after_a_failure_and_nests() -> None:
    net = model()
    with pytest.raises(RuntimeError, match="shapes"), rewritten(net, Place("0"), lambda value: value):
        net(torch.randn(5, 3))
    assert hooks(net) == 0
    with rewritten(net, Place("0"), lambda v: v + 1), rewritten(net, Place("0"), lambda v: v * 2):
        both = net(INPUTS)
    assert torch.allclose(both, net[2](net[1]((net[0](INPUTS) + 1) * 2)))


def test_a_mask_of_ones_leaves_the_output_to_the_bit() -> None:
    net = model()
    mask = FeatureMask(torch.zeros(1, 6), heads=3)
    nn.init.constant_(mask.score.bias, 100.0)
    nn.init.zeros_(mask.score.weight)
    with rewritten(net, Place("1"), mask):
        assert torch.equal(net(INPUTS), model()(INPUTS))


@pytest.mark.parametrize("shape", [(5, 12), (5, 7, 12), (5, 12, 6, 4)])
def test_masks_lie_between_zero_and_one_and_act_on_features(shape: tuple[int, ...]) -> None:
    features = torch.randn(*shape)
    mask = FeatureMask(features).eval()
    values = mask.mask(features)
    assert values.shape == (5, 12)
    assert bool(((values > 0) & (values < 1)).all())
    out = mask(features)
    dim = 2 if len(shape) == 3 else 1
    for i in range(5):
        for d in range(12):
            one = features[i].select(dim - 1, d)
            assert torch.allclose(out[i].select(dim - 1, d), one * values[i, d])


@pytest.mark.parametrize(
    ("width", "heads", "factor", "inner"), [(512, 3, 2, 255), (64, 3, 2, 30), (4, 3, 2, 3), (16, 2, 4, 4)]
)
def test_the_width_of_tokens(width: int, heads: int, factor: int, inner: int) -> None:
    with torch.device("meta"):
        mask = FeatureMask(torch.zeros(1, width), heads=heads, factor=factor)
    assert mask.inner == inner
    assert mask.embed.weight.numel() == width * width * inner


def test_masks_see_all_features_of_their_sample_only() -> None:
    features = torch.randn(3, 8)
    mask = FeatureMask(features)
    changed = features.clone()
    changed[1, 2] += 3
    before, after = mask.mask(features), mask.mask(changed)
    assert torch.allclose(before[[0, 2]], after[[0, 2]], atol=1e-6)
    assert bool((before[1] != after[1]).all())


def test_what_cannot_be_masked() -> None:
    with pytest.raises(InputError, match="cannot be masked"):
        FeatureMask(torch.zeros(5))

    class Pair(nn.Module):
        def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return inputs, inputs

    net = nn.Sequential(Pair())
    with (
        pytest.raises(InputError, match="is a tuple; only a tensor can be rewritten"),
        rewritten(net, Place("0"), lambda v: v),
    ):
        net(INPUTS)
