"""Parts in place of a model's own: another head is saved, loaded and described with the model."""

from __future__ import annotations

import json

import pytest
import torch

from tutelage.data.batch import DataInfo
from tutelage.models.mlp import MLP
from tutelage.models.parts import parts_of, put
from tutelage.models.subclass_head import SubclassHead
from tutelage.models.weights import CONFIG, describe, load_model, load_weights, save_weights
from tutelage.recipe.errors import InputError

INFO = DataInfo((4,), 2, ("a", "b"), "")
INPUTS = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


def model(subclasses=3):
    net = MLP(INFO, hidden=[6])
    if subclasses:
        put(net, "head", SubclassHead(net.head, subclasses=subclasses))
    return net


def test_a_head_over_subclasses_answers_with_classes():
    net = model().eval()
    raw = net.head.subclasses(net.blocks(INPUTS)).view(5, 2, 3)
    assert torch.allclose(net(INPUTS).softmax(-1), raw.flatten(1).softmax(-1).view(5, 2, 3).sum(-1), atol=1e-6)
    net.head.present[1, 2] = False
    shares = raw.clone()
    shares[:, 1, 2] = float("-inf")
    assert torch.allclose(net(INPUTS), shares.logsumexp(-1), atol=1e-6)


def test_a_saved_model_is_built_with_its_parts(tmp_path):
    net = model().eval()
    net.head.present[0, 0] = False
    save_weights(net, tmp_path, describe("mlp", {"hidden": [6]}, INFO))
    again = load_model(tmp_path)
    assert parts_of(again) == {"head": {"name": "subclass-head", "subclasses": 3}}
    assert torch.equal(again(INPUTS), net(INPUTS))


def test_weights_bring_their_parts_to_a_plain_model(tmp_path):
    net = model()
    save_weights(net, tmp_path, describe("mlp", {"hidden": [6]}, INFO))
    for other in (model(0), model(3)):
        load_weights(other, tmp_path)
        assert torch.equal(other.head.subclasses.weight, net.head.subclasses.weight)


def test_a_plain_model_says_nothing_of_parts(tmp_path):
    save_weights(model(0), tmp_path, describe("mlp", {"hidden": [6]}, INFO))
    assert "parts" not in json.loads((tmp_path / CONFIG).read_text())


def test_parts_that_do_not_exist_are_named(tmp_path):
    save_weights(model(), tmp_path, describe("mlp", {"hidden": [6]}, INFO))
    content = json.loads((tmp_path / CONFIG).read_text())
    for parts, said in (
        ({"tail": content["parts"]["head"]}, "no part 'tail'"),
        ({"head": {"name": "subclass-heat"}}, "subclass-head"),
        ({"blocks": content["parts"]["head"]}, "only a linear classifier"),
    ):
        (tmp_path / CONFIG).write_text(json.dumps({**content, "parts": parts}))
        with pytest.raises(InputError, match=said):
            load_model(tmp_path)


def test_a_model_that_is_only_a_head_cannot_be_replaced():
    with pytest.raises(InputError, match="only a part"):
        put(torch.nn.Linear(2, 2), "", torch.nn.Identity())
