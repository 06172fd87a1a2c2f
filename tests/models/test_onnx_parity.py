"""Exports compute what the model computes, or say that they do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.models.convnet import ConvNet
from tutelage.models.export import export_onnx, export_safetensors
from tutelage.models.taps import Taps
from tutelage.models.vit import ViT
from tutelage.models.weights import load_weights
from tutelage.recipe.errors import InputError, RunError


def _convnet(info: DataInfo) -> nn.Module:
    module = ConvNet(info, width=4)
    # Statistics that are not those of a new model, so that a wrong mode shows.
    module(3 * torch.rand(16, 1, 8, 8))
    return module


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convnet", "vit"])
def test_onnx_computes_the_same(info: DataInfo, inputs: Tensor, tmp_path: Path, name: str) -> None:
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    module = _convnet(info) if name == "convnet" else ViT(info, patch=2, dim=8, depth=2, heads=2, dropout=0.1)
    taps = Taps(module, ["features"])
    taps.enabled = False
    module.train()
    path = tmp_path / "model.onnx"
    difference = export_onnx(module, inputs, path)
    assert 0 <= difference < 1e-4
    assert module.training
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [node.name for node in (*session.get_inputs(), *session.get_outputs())] == ["inputs", "logits"]
    module.eval()
    for size in (1, 7):
        images = torch.rand(size, 1, 8, 8)
        (theirs,) = session.run(None, {"inputs": images.numpy()})
        assert torch.allclose(torch.from_numpy(theirs), module(images), atol=1e-5)


def test_onnx_that_differs_is_refused(
    info: DataInfo, inputs: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What onnxruntime gives is compared, with the whole batch and with one sample."""
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    run = ort.InferenceSession.run

    def off(session: Any, names: Any, feed: dict[str, Any]) -> list[Any]:
        (out,) = run(session, names, feed)
        return [out * 1.01 if len(out) == 1 else out]

    monkeypatch.setattr(ort.InferenceSession, "run", off)
    with pytest.raises(RunError, match=r"differs from the model by .* for a batch of 1 .*nothing was written"):
        export_onnx(_convnet(info), inputs, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_onnx_of_a_model_that_cannot_be_exported(inputs: Tensor, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")

    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum().item() > 0 else -x

    with pytest.raises(InputError, match="the model Branching cannot be exported to ONNX"):
        export_onnx(Branching(), inputs, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_safetensors_come_back(info: DataInfo, inputs: Tensor, tmp_path: Path) -> None:
    module, other = _convnet(info).eval(), ConvNet(info, width=4).eval()
    path = export_safetensors(module, tmp_path / "student.safetensors")
    assert load_weights(other, path) == path
    assert torch.equal(other(inputs), module(inputs))
