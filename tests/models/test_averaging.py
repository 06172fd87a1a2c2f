from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tutelage.models.averaging import EMA, SWA, average_states, ema, mix, running_mean, update_bn
from tutelage.models.freezing import freeze


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3, momentum=0.3)
        self.drop = nn.Dropout(0.5)
        self.second = nn.Linear(3, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.second(self.drop(self.norm(self.first(inputs))))


def nets(count: int) -> list[Net]:
    made = []
    for seed in range(count):
        torch.manual_seed(seed)
        net = Net()
        net(torch.randn(16, 4) * (seed + 1))
        net.norm.num_batches_tracked.fill_(seed + 10)
        made.append(net)
    return made


def test_ema_is_its_closed_form() -> None:
    start, *later = nets(5)
    decay = 0.8
    ema = EMA(start, decay=decay)
    for net in later:
        ema.update(net)
    for name, value in ema.averaged().items():
        history = [net.state_dict()[name] for net in (start, *later)]
        if not value.is_floating_point():
            assert torch.equal(value, history[-1])
            continue
        n = len(later)
        expected = decay**n * history[0].double()
        for i, new in enumerate(history[1:], 1):
            expected += (1 - decay) * decay ** (n - i) * new.double()
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)


def test_ema_averages_buffers_and_leaves_the_module_alone() -> None:
    a, b = nets(2)
    before = copy.deepcopy(b.state_dict())
    ema = EMA(a, decay=0.5)
    ema.update(b)
    assert all(torch.equal(before[k], v) for k, v in b.state_dict().items())
    mean = ema.averaged()["norm.running_mean"]
    assert not torch.equal(mean, a.norm.running_mean)
    assert not torch.equal(mean, b.norm.running_mean)
    a.load_state_dict(ema.averaged())


def test_what_is_handed_out_is_a_copy() -> None:
    (a,) = nets(1)
    for average in (EMA(a, decay=0.5), SWA(a)):
        average.update(a)
        average.averaged()["first.weight"].zero_()
        assert torch.equal(average.averaged()["first.weight"], a.first.weight)


def test_half_precision_weights_still_move() -> None:
    one, two = nn.Linear(1, 1, bias=False).bfloat16(), nn.Linear(1, 1, bias=False).bfloat16()
    nn.init.constant_(one.weight, 1.0)
    nn.init.constant_(two.weight, 2.0)
    ema = EMA(one, decay=0.999)
    for _ in range(1000):
        ema.update(two)
    out = ema.averaged()["weight"]
    assert out.dtype == torch.bfloat16
    assert out.item() == pytest.approx(2 - 0.999**1000, rel=1e-2)


def test_swa_is_the_mean_of_what_was_counted() -> None:
    start, *later = nets(5)
    swa = SWA(start)
    for net in later:
        swa.update(net)
    assert swa.count == 4
    for name, value in swa.averaged().items():
        history = [net.state_dict()[name] for net in later]
        expected = torch.stack(history).double().mean(0) if value.is_floating_point() else history[-1]
        torch.testing.assert_close(value, expected.to(value.dtype), rtol=1e-5, atol=1e-6)


def test_swa_of_one_is_exact() -> None:
    start, later = nets(2)
    swa = SWA(start)
    assert swa.count == 0
    swa.update(later)
    assert all(torch.equal(v, later.state_dict()[k]) for k, v in swa.averaged().items())


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_state_resumes_exactly(kind: str) -> None:
    start, *later = nets(6)
    make = (lambda: EMA(start, decay=0.9)) if kind == "ema" else (lambda: SWA(start))
    whole, part = make(), make()
    for net in later:
        whole.update(net)
    for net in later[:2]:
        part.update(net)
    state = copy.deepcopy(part.state_dict())
    resumed = make()
    resumed.load_state_dict(state)
    for net in later[2:]:
        resumed.update(net)
    assert all(torch.equal(v, whole.averaged()[k]) for k, v in resumed.averaged().items())
    assert all(isinstance(v, int | float | dict) for v in state.values())


def test_another_model_is_refused_by_name() -> None:
    (a,) = nets(1)
    ema = EMA(a, decay=0.5)
    with pytest.raises(ValueError, match=r"'first.weight' is missing"):
        ema.update(nn.Sequential(nn.Linear(4, 3)))
    other = copy.deepcopy(a)
    other.first = nn.Linear(5, 3)
    with pytest.raises(ValueError, match=r"'first.weight' has the shapes \[3, 4\] and \[3, 5\]"):
        ema.update(other)
    with pytest.raises(ValueError, match="decay"):
        EMA(a, decay=1.5)


def test_update_bn_is_the_mean_over_batches() -> None:
    (net,) = nets(1)
    batches = [torch.randn(8, 4) + i for i in range(3)]
    net.train()
    net.second.eval()
    net.drop.eval()
    modes = {name: part.training for name, part in net.named_modules()}
    update_bn(net, iter(batches))
    with torch.no_grad():
        seen = [net.first(batch) for batch in batches]
    torch.testing.assert_close(net.norm.running_mean, torch.stack([s.mean(0) for s in seen]).mean(0))
    torch.testing.assert_close(net.norm.running_var, torch.stack([s.var(0) for s in seen]).mean(0))
    assert net.norm.momentum == 0.3
    assert {name: part.training for name, part in net.named_modules()} == modes


def test_update_bn_measures_without_dropout() -> None:
    net = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(4)).train()
    inputs = torch.randn(64, 4)
    update_bn(net, [inputs])
    torch.testing.assert_close(net[1].running_var, inputs.var(0))


def test_update_bn_leaves_alone_what_it_must() -> None:
    plain = nn.Sequential(nn.Linear(4, 2))

    def never() -> object:
        raise AssertionError("the batches were read")
        yield

    update_bn(plain, never())
    (net,) = nets(1)
    before = net.norm.running_mean.clone()
    update_bn(net, [])
    assert torch.equal(net.norm.running_mean, before)
    frozen = copy.deepcopy(net)
    freeze(frozen, ["norm"])
    update_bn(frozen, [torch.randn(8, 4)])
    assert torch.equal(frozen.norm.running_mean, before)
    bare = nn.Sequential(nn.BatchNorm1d(4, affine=False), nn.BatchNorm1d(4))
    bare[0].running_mean.fill_(7.0)
    freeze(bare, ["0"])
    update_bn(bare, [torch.randn(8, 4)])
    assert bare[0].running_mean.tolist() == [7.0] * 4
    assert bare[1].running_mean.abs().max() > 1
    with pytest.raises(RuntimeError):
        update_bn(net, [torch.randn(8, 7)])
    assert net.norm.momentum == 0.3


def test_average_states_is_the_weighted_mean() -> None:
    states = [net.state_dict() for net in nets(3)]
    plain, weighted = average_states(states, None), average_states(states, [1, 2, 5])
    for name, value in states[0].items():
        if not value.is_floating_point():
            assert torch.equal(plain[name], states[2][name])
            assert torch.equal(weighted[name], states[2][name])
            continue
        stacked = torch.stack([s[name].double() for s in states])
        torch.testing.assert_close(plain[name].double(), stacked.mean(0), rtol=1e-5, atol=1e-6)
        share = torch.tensor([1, 2, 5]).double().div(8).view(-1, *[1] * value.ndim)
        torch.testing.assert_close(weighted[name].double(), (stacked * share).sum(0), rtol=1e-5, atol=1e-6)
    Net().load_state_dict(weighted)


def test_average_states_refuses_what_does_not_fit() -> None:
    a, b = (dict(net.state_dict()) for net in nets(2))
    del b["second.bias"]
    with pytest.raises(ValueError, match=r"'second.bias' is missing"):
        average_states([a, b])
    with pytest.raises(ValueError, match="2 states need as many weights"):
        average_states([a, a], [1.0])
    for weights in ([0.0, 0.0], [-1.0, 2.0], [float("nan"), 1.0]):
        with pytest.raises(ValueError, match="positive sum"):
            average_states([a, a], weights)
    with pytest.raises(ValueError, match="no state"):
        average_states([])


def test_mixtures_are_their_formulas_and_change_nothing() -> None:
    a, b = (net.state_dict() for net in nets(2))
    before = copy.deepcopy(a)
    for name, value in mix(a, b, 0.25).items():
        expected = 0.75 * a[name] + 0.25 * b[name] if value.is_floating_point() else b[name]
        torch.testing.assert_close(value, expected)
    for name, value in ema(a, b, 0.9).items():
        torch.testing.assert_close(value, mix(a, b, 1 - 0.9)[name])
    for name, value in running_mean(a, b, 3).items():
        torch.testing.assert_close(value, mix(a, b, 0.25)[name])
    assert all(torch.equal(value, a[name]) for name, value in before.items())


def test_a_warmed_up_average_forgets_its_start_sooner() -> None:
    start, later = nets(2)
    plain, warm = EMA(start, decay=0.99), EMA(start, decay=0.99, warmup=True)
    distances = []
    for average in (plain, warm):
        for _ in range(3):
            average.update(later)
        distances.append(float((average.averaged()["first.weight"] - later.first.weight.detach()).norm()))
    kept, whole = 1 / 10 * 2 / 11 * 3 / 12, (start.first.weight - later.first.weight).detach().norm()
    assert distances[1] == pytest.approx(kept * float(whole), rel=1e-3)
    assert distances[1] < distances[0]
