"""What an export leaves behind, says and refuses; that it computes the same is in test_onnx_parity.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.models.export import export_onnx, export_safetensors
from tutelage.models.mlp import MLP
from tutelage.models.resnet import ResNet
from tutelage.models.weights import load_weights
from tutelage.recipe.errors import InputError, RunError


class Baked(nn.Module):
    """Computes something else while it is exported."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(inputs.flatten(1))
        return logits * 1.01 if torch.compiler.is_compiling() else logits


def test_the_export_of_one_sample_takes_others_and_says_nothing(
    info: DataInfo, inputs: Tensor, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    module = ResNet(info, depth=8, width=4)
    module(torch.randn(16, 1, 8, 8))
    export_onnx(module, inputs[:1], tmp_path / "m.onnx")
    assert capfd.readouterr() == ("", "")
    session = ort.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = module.eval()(inputs)
    (logits,) = session.run(["logits"], {"inputs": inputs.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=1e-4, atol=1e-5)


def test_a_file_is_only_replaced_by_a_good_one(inputs: Tensor, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = tmp_path / "m.onnx"
    path.write_bytes(b"what was there")
    with pytest.raises(RunError, match="differs from the model by"):
        export_onnx(Baked(), inputs, path)
    assert path.read_bytes() == b"what was there"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_extra_is_named(
    package: str, info: DataInfo, inputs: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=r"pip install .tutelage\[export\]"):
        export_onnx(MLP(info), inputs, tmp_path / "m.onnx")


def test_a_place_that_is_not_there_is_named(info: DataInfo, inputs: Tensor, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    with pytest.raises(RunError, match=r"none/m.onnx cannot be written"):
        export_onnx(MLP(info), inputs, tmp_path / "none" / "m.onnx")
    with pytest.raises(RunError, match=r"none/m.safetensors cannot be written"):
        export_safetensors(MLP(info), tmp_path / "none" / "m.safetensors")


def test_safetensors_come_back_bit_for_bit(info: DataInfo, tmp_path: Path) -> None:
    module, other = ResNet(info, depth=8, width=4), ResNet(info, depth=8, width=4)
    module(torch.randn(16, 1, 8, 8))
    load_weights(other, export_safetensors(module, tmp_path / "m.safetensors"))
    state = other.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
