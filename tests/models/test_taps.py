"""Taps: what they capture, that they change nothing, and what they refuse."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tutelage.data.batch import Batch, DataInfo
from tutelage.models.convnet import ConvNet
from tutelage.models.outputs import first_tensor
from tutelage.models.participant import Participant
from tutelage.models.taps import Taps, standard_taps_of, tap_tree
from tutelage.models.vit import ViT
from tutelage.recipe.errors import InputError


class Foreign(nn.Module):
    """A user's own model, which knows nothing of taps."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.top = nn.Sequential(nn.Flatten(), nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 10))
        self.auxiliary = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.top(self.pool(self.body(x)))
        return out


class Odd(nn.Module):
    """Outputs and inputs of every kind."""

    @dataclass
    class Result:
        count: int
        hidden: Tensor

    class Part(nn.Module):
        def __init__(self, kind: str) -> None:
            super().__init__()
            self.kind = kind
            self.linear = nn.Linear(4, 4)

        def forward(self, *, x: Tensor) -> Any:
            y = self.linear(x)
            return {
                "tuple": (None, y),
                "dict": {"n": 1, "y": y},
                "dataclass": Odd.Result(1, y),
                "list": [[y]],
                "nothing": "no tensor",
            }[self.kind]

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.part = self.Part(kind)

    def forward(self, x: Tensor) -> Tensor:
        found = first_tensor(self.part(x=x))
        return x if found is None else found


@pytest.fixture
def net(info: DataInfo) -> ConvNet:
    torch.manual_seed(0)
    return ConvNet(info, width=4)


def test_a_capture_is_what_a_forward_by_hand_gives(net: ConvNet, inputs: Tensor) -> None:
    net.eval()
    taps = Taps(net, ["blocks.1", "blocks.1:input", "blocks.2.0", ":input", "head:output"])
    logits = net(inputs)
    seen = taps.collect()
    first = net.blocks[0](inputs)
    second = net.blocks[1](first)
    assert list(seen) == ["blocks.1", "blocks.1:input", "blocks.2.0", ":input", "head:output"]
    assert torch.equal(seen["blocks.1:input"], first)
    assert torch.equal(seen["blocks.1"], second)
    assert torch.equal(seen["blocks.2.0"], net.get_submodule("blocks.2.0")(second))
    assert seen[":input"] is inputs
    assert torch.equal(seen["head:output"], logits)


def test_gradients_flow_to_and_through(net: ConvNet, inputs: Tensor) -> None:
    taps = Taps(net, ["features"])
    inputs.requires_grad_(True)
    logits = net(inputs)
    features = taps.collect()["features"]
    to_features = torch.autograd.grad(logits.sum(), features, retain_graph=True)[0]
    # Features are averaged over 2x2 positions and enter a linear head.
    assert torch.allclose(to_features[0, :, 0, 0], net.head.weight.sum(0) / 4)
    features.square().sum().backward()
    assert inputs.grad is not None
    assert inputs.grad.any()
    assert net.head.weight.grad is None


def test_detached_only_when_asked(net: ConvNet, inputs: Tensor) -> None:
    kept, cut = Taps(net, ["features"]), Taps(net, ["features"], detach=True)
    net(inputs)
    a, b = kept.collect()["features"], cut.collect()["features"]
    assert a.requires_grad
    assert not b.requires_grad
    assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("blocks.*", ["blocks.0", "blocks.1", "blocks.2"]),
        ("blocks.[01]", ["blocks.0", "blocks.1"]),
        ("blocks.*.0", ["blocks.0.0", "blocks.1.0", "blocks.2.0"]),
        ("*", ["blocks", "head"]),
        ("blocks.?:input", ["blocks.0:input", "blocks.1:input", "blocks.2:input"]),
        ("**.5", ["blocks.0.5", "blocks.1.5", "blocks.2.5"]),
    ],
)
def test_globs(net: ConvNet, inputs: Tensor, glob: str, expected: list[str]) -> None:
    taps = Taps(net, [glob])
    net(inputs)
    assert list(taps.collect()) == expected


def test_two_names_of_one_place(net: ConvNet, inputs: Tensor) -> None:
    taps = Taps(net, ["features", "blocks", "*"])
    net(inputs)
    seen = taps.collect()
    assert seen["features"] is seen["blocks"]
    assert list(seen) == ["features", "blocks", "head"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("block.1", "the tap 'block.1' matches nothing in the model. Did you mean 'blocks.1'"),
        ("blocks.*.attn", "matches nothing"),
        ("head:inputs", "Did you mean 'input'"),
        ("featurs", "matches nothing"),
    ],
)
def test_a_wrong_name_is_answered_with_real_ones(net: ConvNet, name: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        Taps(net, ["features", name])
    assert said in str(error.value)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())


def test_collect_clears_and_frees(net: ConvNet, inputs: Tensor) -> None:
    taps = Taps(net, ["features"])
    net(inputs)
    alive = weakref.ref(taps.collect()["features"])
    gc.collect()
    assert alive() is None
    assert taps.collect() == {}


def test_nothing_is_captured_when_disabled_or_removed(net: ConvNet, inputs: Tensor) -> None:
    taps = Taps(net, ["features", "embedding"])
    taps.enabled = False
    net(inputs)
    assert taps.collect() == {}
    with taps.capturing():
        net(inputs)
    net(2 * inputs)
    assert len(taps.collect()) == 2
    taps.enabled = True
    taps.remove()
    net(inputs)
    assert taps.collect() == {}
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())


def test_the_model_is_what_it_was(net: ConvNet, inputs: Tensor) -> None:
    net.eval()
    before, keys = net(inputs), list(net.state_dict())
    taps = Taps(net, ["features", "head:input"])
    assert torch.equal(net(inputs), before)
    assert list(net.state_dict()) == keys
    taps.collect()
    stored = io.BytesIO()
    torch.save(net, stored)
    stored.seek(0)
    pickled = pickle.loads(pickle.dumps(net))  # noqa: S301 - made here
    copies = [copy.deepcopy(net), pickled, torch.load(stored, weights_only=False)]
    for other in copies:
        assert torch.equal(other(inputs), before)
    assert taps.collect() == {}, "a copy is not tapped"


@pytest.mark.parametrize("kind", ["tuple", "dict", "dataclass", "list"])
def test_the_first_tensor_of_what_a_module_returns_or_takes(kind: str) -> None:
    module = Odd(kind)
    taps = Taps(module, ["part", "part:input"])
    x = torch.rand(2, 4)
    out = module(x)
    seen = taps.collect()
    assert seen["part"] is out
    assert seen["part:input"] is x


def test_a_module_that_returns_no_tensor_is_named() -> None:
    module = Odd("nothing")
    Taps(module, ["part"])
    with pytest.raises(InputError, match="'part' captures no tensor, but a str"):
        module(torch.rand(2, 4))


def test_the_last_of_several_calls_is_kept() -> None:
    layer = nn.Linear(3, 3)
    module = nn.Sequential(layer, nn.Tanh(), layer)
    taps = Taps(module, ["0", "2"])
    x = torch.rand(2, 3)
    out = module(x)
    assert [torch.equal(seen, out) for seen in taps.collect().values()] == [True, True]


def test_a_capture_changed_in_place_is_refused() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True), nn.Linear(3, 2))
    taps = Taps(module, ["0", "2"])
    module(torch.rand(2, 3))
    with pytest.raises(InputError, match="'0' captured was changed in place"):
        taps.collect()
    fine = Taps(module, ["1"])
    module(torch.rand(2, 3))
    assert list(fine.collect()) == ["1"]


def test_inference_mode(net: ConvNet, inputs: Tensor) -> None:
    taps = Taps(net, ["features"])
    with torch.inference_mode():
        net.eval()(inputs)
    assert taps.collect()["features"].is_inference()


def test_a_recomputed_forward_leaves_nothing_behind(batch: Batch, info: DataInfo) -> None:
    class Checkpointed(ConvNet):
        def forward(self, inputs: Tensor) -> Tensor:
            hidden: Tensor = checkpoint(self.blocks, inputs, use_reentrant=False)  # type: ignore[assignment]
            out: Tensor = self.head(hidden.mean((2, 3)))
            return out

    participant = Participant("student", Checkpointed(info, width=4), trainable=True, taps=["blocks.1"])
    out = participant(batch)
    (out.logits.sum() + out.taps["blocks.1"].sum()).backward()
    assert participant._taps is not None
    assert participant._taps.collect() == {}


def _backends() -> list[Any]:
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except Exception as error:
        return ["eager", "aot_eager", pytest.param("inductor", marks=pytest.mark.skip(reason=f"no compiler: {error}"))]
    return ["eager", "aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]


@pytest.mark.parametrize("backend", _backends())
def test_compiled(net: ConvNet, batch: Batch, backend: str) -> None:
    """Without a graph break, the same captures and gradients as eager; a forward without captures stays without."""
    torch._dynamo.reset()
    names = ["embedding", "features", "blocks.*:input"]
    net.eval()
    plain = Participant("plain", net, trainable=True, taps=names)
    expected = plain(batch)
    expected.features.square().sum().backward()
    gradient = net.get_parameter("blocks.0.0.weight").grad
    assert gradient is not None
    plain.close()
    net.zero_grad()
    participant = Participant("student", net, trainable=True, taps=names)
    participant.wrapped = torch.compile(net, backend=backend, fullgraph=True)
    for _ in range(2):
        out = participant(batch)
        assert torch.allclose(out.logits, expected.logits, atol=1e-5)
        assert list(out.taps) == list(expected.taps)
        assert all(torch.allclose(out.taps[name], tap, atol=1e-5) for name, tap in expected.taps.items())
    out.features.square().sum().backward()
    compiled = net.get_parameter("blocks.0.0.weight").grad
    assert compiled is not None
    assert torch.allclose(compiled, gradient, rtol=1e-3, atol=1e-5)
    assert torch.allclose(participant.predict(batch.inputs), expected.logits, atol=1e-5)
    assert participant._taps is not None
    assert participant._taps.collect() == {}


def test_stop_after_skips_the_rest(info: DataInfo, inputs: Tensor) -> None:
    module = ViT(info, patch=2, dim=8, depth=4, heads=2).eval()
    full = Taps(module, ["blocks.0", "blocks.1"])
    module(inputs)
    expected = full.collect()
    full.remove()
    ran: list[int] = []
    for i, block in enumerate(module.blocks):
        block.register_forward_hook(lambda part, args, out, i=i: ran.append(i))
    taps = Taps(module, ["blocks.0", "blocks.1"], stop_after="blocks.1")
    assert taps.run(module, inputs) is None
    seen = taps.collect()
    assert all(torch.equal(seen[name], tap) for name, tap in expected.items())
    assert ran == [0, 1] or ran == [0]
    taps.remove()
    assert module(inputs).shape == (4, 10)


def test_stop_after_passes_other_errors_on(net: ConvNet) -> None:
    taps = Taps(net, ["blocks.0"], stop_after="blocks.0")
    with pytest.raises(RuntimeError):
        taps.run(net, torch.rand(2, 5, 8, 8))


@pytest.mark.parametrize("late", ["blocks", "embedding", "blocks.2", "blocks.1.0:output", "blocks.1"])
def test_a_tap_after_the_stop_is_refused(net: ConvNet, inputs: Tensor, late: str) -> None:
    with pytest.raises(InputError, match=r"comes after 'blocks\.1:input', where the forward is to stop"):
        Taps(net, ["blocks.0", late], stop_after="blocks.1:input").run(net, inputs)


def test_stop_after_one_place_only(net: ConvNet) -> None:
    with pytest.raises(InputError, match="matches 3"):
        Taps(net, ["blocks.0"], stop_after="blocks.*")


def test_standard_taps_of_a_foreign_model(inputs: Tensor) -> None:
    module = Foreign().train()
    state, modes = copy.deepcopy(module.state_dict()), [part.training for part in module.modules()]
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    found = standard_taps_of(module, inputs)
    assert torch.equal(torch.rand(1), expected), "the random state moved"
    # Not the 1x1 map that pooling leaves, and not the layer that is never called.
    assert found == {"embedding": "top.3:input", "classifier": "top.3", "features": "body"}
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in state.items())
    assert [part.training for part in module.modules()] == modes


def test_standard_taps_of_a_transformer() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.norm = nn.LayerNorm(8)
            self.out = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.out(self.norm(self.encoder(x)).mean(1))
            return logits

    found = standard_taps_of(Tokens(), torch.rand(2, 5, 8))
    assert found == {"embedding": "out:input", "classifier": "out", "features": "norm"}


def test_standard_taps_where_shapes_are_not_enough() -> None:
    class Values(Foreign):
        def __init__(self) -> None:
            super().__init__()
            self.loose = torch.ones(1)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(x * self.loose if x.sum().item() > 0 else x)

    module = Values()
    assert standard_taps_of(module, torch.ones(2, 1, 8, 8))["features"] == "body"
    assert module.calls.item() == 0


def test_a_foreign_model_without_linear_layer_says_so(inputs: Tensor) -> None:
    module = nn.Sequential(nn.Conv2d(1, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert standard_taps_of(module, inputs) == {"features": "0"}
    with pytest.raises(InputError, match="Sequential has no standard tap 'embedding'"):
        Taps(module, ["embedding"], example=inputs)
    with pytest.raises(InputError, match="declares no standard taps"):
        Taps(module, ["features"])


def test_a_declaration_that_is_wrong_is_named(inputs: Tensor) -> None:
    module = Foreign()
    module.standard_taps = {"features": "trunk"}
    with pytest.raises(InputError, match="'features' is declared as 'trunk', which the model does not have"):
        Taps(module, ["features"])


def test_a_module_named_like_a_standard_tap_is_reached_by_its_side(inputs: Tensor) -> None:
    module = nn.Sequential()
    module.add_module("features", nn.Conv2d(1, 2, 3))
    module.add_module("more", nn.Sequential(nn.Conv2d(2, 2, 3), nn.Flatten()))
    module.add_module("classifier", nn.Linear(32, 3))
    taps = Taps(module, ["features", "features:output"], example=inputs)
    module(inputs)
    seen = taps.collect()
    assert seen["features"].shape == (4, 2, 4, 4)
    assert seen["features:output"].shape == (4, 2, 6, 6)


@pytest.mark.parametrize("meta", [False, True])
def test_the_tree_of_taps(info: DataInfo, inputs: Tensor, meta: bool) -> None:
    with torch.device("meta" if meta else "cpu"):
        module = ConvNet(info, width=4)
    rows = {row.path: row for row in tap_tree(module, inputs.to("meta") if meta else inputs)}
    assert list(rows) == [path for path, _ in module.named_modules() if path]
    assert rows["blocks.1"].shape == (4, 8, 4, 4)
    assert rows["blocks.1.0"].type == "Conv2d"
    assert rows["blocks.1.0"].parameters == 4 * 8 * 9
    assert rows["head"].standard == ("embedding (input)", "classifier")
    assert rows["blocks"].standard == ("features",)


def test_the_tree_shows_what_is_never_called(inputs: Tensor) -> None:
    rows = {row.path: row for row in tap_tree(Foreign(), inputs)}
    assert rows["auxiliary"].shape is None
    assert rows["auxiliary"].parameters == 44
