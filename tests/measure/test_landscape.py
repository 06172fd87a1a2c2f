"""The loss around a minimum: directions as long as the weights, the centre, valleys; and gradients of batches."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity, cross_entropy

from tutelage.measure.landscape import Landscape, filter_normalized, loss_landscape, successive_gradients


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3))


@pytest.fixture
def data() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 0, 1, 2])


def test_filters_of_a_direction_are_as_long_as_the_weights(model):
    direction = filter_normalized(model, torch.Generator().manual_seed(0))
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            assert not direction[name].any()
        else:
            lengths = [t.flatten(1).norm(dim=1) for t in (direction[name], parameter)]
            torch.testing.assert_close(*lengths)


def test_the_centre_is_the_plain_loss_and_the_model_is_not_moved(model, data):
    before = copy.deepcopy(model.state_dict())
    view = loss_landscape(model, *data, steps=5)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert model.training
    with torch.no_grad():
        assert view.centre == pytest.approx(cross_entropy(model.eval()(data[0]), data[1]).item())
    first = filter_normalized(model, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(first[name])
        assert view.line[-1].item() == pytest.approx(cross_entropy(model(data[0]), data[1]).item(), rel=1e-5)


def test_directions_do_not_see_how_large_weights_are(data):
    """A network whose filters are scaled before a normalisation is the same function, and has the same landscape."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 5, bias=False), nn.LayerNorm(5), nn.Linear(5, 3))
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[1].weight.mul_(10)
    views = [loss_landscape(m, *data, steps=3) for m in (model, other)]
    torch.testing.assert_close(views[0].grid, views[1].grid, rtol=1e-3, atol=1e-3)


def test_sharpness_and_dents():
    at = torch.linspace(-1, 1, 9)
    bowl = Landscape(at, at[:, None].square() + at[None, :].square())
    assert bowl.dents() == 0
    assert bowl.sharpness(0.5) == pytest.approx(0.25, abs=0.05)
    wave = Landscape(at, (6 * at[:, None]).cos() + 0 * at[None, :])
    assert wave.dents() == 9
    with pytest.raises(ValueError, match="odd number of steps"):
        loss_landscape(nn.Linear(1, 2), torch.ones(1, 1), torch.tensor([0]), steps=4)


def test_gradients_of_successive_batches(data):
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    model.requires_grad_(False)
    batches = [(data[0][:3], data[1][:3]), (data[0][3:], data[1][3:])]
    found = successive_gradients(model, batches)
    assert not any(p.requires_grad for p in model.parameters())
    model.requires_grad_(True)
    each = []
    for inputs, labels in batches:
        model.zero_grad()
        cross_entropy(model(inputs), labels).backward()
        each.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert found.cosine == pytest.approx(cosine_similarity(*each, dim=0).item(), abs=1e-6)
    lengths = torch.stack([g.norm() for g in each])
    assert found.norm == pytest.approx(lengths.mean().item(), rel=1e-5)
    assert found.variance == pytest.approx((lengths.var(correction=0) / lengths.mean() ** 2).item(), rel=1e-4)
    same = successive_gradients(model, [batches[0]] * 3)
    assert (same.cosine, same.variance) == (pytest.approx(1.0), pytest.approx(0.0, abs=1e-9))
    with pytest.raises(ValueError, match="at least 2 batches"):
        successive_gradients(model, batches[:1])
