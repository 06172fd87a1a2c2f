"""Image classifiers of transformers, from folders that are written here: tiny, random, and without a network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tutelage.data.batch import DataInfo
from tutelage.models.cost import estimate
from tutelage.models.pretrained import PretrainedClassifier
from tutelage.models.standard import parameters_of
from tutelage.models.taps import Taps
from tutelage.models.weights import describe, load_model, load_weights, save_weights
from tutelage.recipe.errors import InputError

transformers = pytest.importorskip("transformers")

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(kind: str = "vit", classes: int = 10, channels: int = 1, size: int = 8) -> Path:
        torch.manual_seed(0)
        if kind == "vit":
            config = transformers.ViTConfig(
                hidden_size=8,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=16,
                image_size=size,
                patch_size=2,
                num_channels=channels,
                num_labels=classes,
            )
        else:
            config = transformers.ResNetConfig(
                num_channels=channels,
                embedding_size=4,
                hidden_sizes=[4, 8],
                depths=[1, 1],
                layer_type="basic",
                num_labels=classes,
            )
        folder = tmp_path / f"{kind}-{classes}-{channels}-{size}"
        transformers.AutoModelForImageClassification.from_config(config).save_pretrained(folder)
        return folder

    return make


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_logits_and_standard_taps(make: Make, info: DataInfo, inputs: torch.Tensor, kind: str) -> None:
    folder = make(kind, size=8)
    module = PretrainedClassifier(info, path=str(folder)).eval()
    theirs = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    taps = Taps(module, ["embedding", "features", "classifier"])
    logits = module(inputs)
    seen = taps.collect()
    expected = theirs(inputs, output_hidden_states=True)
    assert torch.allclose(logits, expected.logits, atol=1e-6)
    assert torch.equal(seen["classifier"], logits)
    if kind == "vit":
        assert torch.equal(seen["embedding"], seen["features"][:, 0])
        assert seen["features"].shape == (4, 17, 8)
    else:
        assert torch.allclose(seen["features"], expected.hidden_states[-1])
        assert torch.allclose(seen["embedding"], seen["features"].mean((2, 3)), atol=1e-6)


def test_a_head_of_other_classes(make: Make, info: DataInfo, inputs: torch.Tensor) -> None:
    folder = make(classes=3)
    with pytest.raises(InputError, match="has 3 classes, but the data has 10; set resize_head: true"):
        PretrainedClassifier(info, path=str(folder))
    module = PretrainedClassifier(info, path=str(folder), resize_head=True)
    assert module(inputs).shape == (4, 10)
    kept = transformers.AutoModelForImageClassification.from_pretrained(folder).state_dict()
    changed = [n for n, t in module.model.state_dict().items() if not torch.equal(t, kept[n])]
    assert changed == ["classifier.weight", "classifier.bias"]


def test_channels(make: Make, info: DataInfo, inputs: torch.Tensor) -> None:
    module = PretrainedClassifier(info, path=str(make(channels=3))).eval()
    assert torch.allclose(module(inputs), module.model(inputs.expand(-1, 3, -1, -1)).logits)
    with pytest.raises(InputError, match="takes images of 1 channels, but the data has 3"):
        PretrainedClassifier(DataInfo((3, 8, 8), 10, (), ""), path=str(make(channels=1)))


def test_sizes(make: Make, info: DataInfo, inputs: torch.Tensor) -> None:
    folder = make(size=16)
    with pytest.raises(
        InputError, match=r"images of \(16, 16\) pixels, but the data's are \(8, 8\); set resize_inputs"
    ):
        PretrainedClassifier(info, path=str(folder))
    module = PretrainedClassifier(info, path=str(folder), resize_inputs=True)
    assert module(inputs).shape == (4, 10)
    taps = Taps(module, ["features"])
    module(inputs)
    assert taps.collect()["features"].shape == (4, 65, 8)


def test_what_is_saved_needs_the_old_folder_no_more(
    make: Make, info: DataInfo, inputs: torch.Tensor, tmp_path: Path
) -> None:
    """And transformers reads it too."""
    folder = make(classes=3)
    args: dict[str, Any] = {"path": str(folder), "resize_head": True}
    module = PretrainedClassifier(info, **args).eval()
    saved = save_weights(module, tmp_path / "student", describe("transformers", args, info))
    (folder / "config.json").unlink()
    again = load_model(saved).eval()
    assert torch.equal(again(inputs), module(inputs))
    theirs = transformers.AutoModelForImageClassification.from_pretrained(saved).eval()
    assert torch.allclose(theirs(inputs).logits, module(inputs), atol=1e-6)


def test_saved_weights_are_a_source(make: Make, info: DataInfo, inputs: torch.Tensor, tmp_path: Path) -> None:
    folder = make()
    module = PretrainedClassifier(info, path=str(folder), pretrained=False).eval()
    pretrained = PretrainedClassifier(info, path=str(folder)).eval()
    assert not torch.allclose(module(inputs), pretrained(inputs))
    load_weights(module, save_weights(pretrained, tmp_path / "saved", describe("transformers", {"path": "x"}, info)))
    assert torch.equal(module(inputs), pretrained(inputs))


def test_shapes_need_no_weights(make: Make, info: DataInfo) -> None:
    folder = make()
    real = parameters_of(PretrainedClassifier(info, path=str(folder)))
    found = estimate(lambda data: PretrainedClassifier(data, path=str(folder)), info, 4)
    assert found["parameters"] == real
    assert found["activation_bytes"] > 0
    (folder / "model.safetensors").write_bytes(b"not weights")
    with torch.device("meta"):
        assert parameters_of(PretrainedClassifier(info, path=str(folder))) == real


def test_code_in_a_folder_is_refused(make: Make, info: DataInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the recipe asks for it or the folder does."""
    folder = make()
    monkeypatch.delenv("TUTELAGE_TRUST_REMOTE_CODE", raising=False)
    with pytest.raises(InputError, match=r"would run code from .* pass --trust-remote-code"):
        PretrainedClassifier(info, path=str(folder), trust_remote_code=True)
    (folder / "evil.py").write_text("raise SystemExit('code ran')\n")
    config = json.loads((folder / "config.json").read_text())
    auto = {"AutoConfig": "evil.Config", "AutoModelForImageClassification": "evil.Model"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "evil", "auto_map": auto}))
    with pytest.raises(InputError, match="trust_remote_code"):
        PretrainedClassifier(info, path=str(folder))
    monkeypatch.setenv("TUTELAGE_TRUST_REMOTE_CODE", "1")
    with pytest.raises(SystemExit, match="code ran"):
        PretrainedClassifier(info, path=str(folder), trust_remote_code=True)


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no weights"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "only the pickle"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 40), "cannot be read"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "nonesuch"}'), "cannot be read"),
    ],
)
def test_broken_folders(make: Make, info: DataInfo, break_it: Callable[[Path], object], said: str) -> None:
    folder = make()
    break_it(folder)
    with pytest.raises(InputError, match=said):
        PretrainedClassifier(info, path=str(folder))


def test_tables_are_refused(make: Make) -> None:
    with pytest.raises(InputError, match="'transformers' takes images"):
        PretrainedClassifier(DataInfo((5,), 2, (), ""), path=str(make()))
