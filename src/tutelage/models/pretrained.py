"""Image classifiers of transformers, from a local folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tutelage.data.batch import DataInfo
from tutelage.models.shapes import image_shape
from tutelage.models.standard import standard_taps_of
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component

PERMISSION = "TUTELAGE_TRUST_REMOTE_CODE"


@component("model", "transformers")
class PretrainedClassifier(nn.Module):
    """Any image classifier of transformers, read from a local folder; the network is never asked.

    Images of one channel are repeated for a model of three. Weights that transformers wrote are read by giving their
    folder as ``path``, not as ``weights``: only transformers knows how it has renamed them since.

    Args:
        data: What it is built for.
        path: Folder with ``config.json`` and ``model.safetensors``, as ``save_pretrained`` writes it.
        pretrained: Whether the folder's weights are loaded; otherwise it starts from random ones.
        resize_head: Whether a head of another number of classes is replaced by a new, random one.
        resize_inputs: Whether images of another size are scaled to the model's.
        trust_remote_code: Whether code in the folder may run; refused unless the command line allowed it.
    """

    weights_prefix = "model."
    standard_taps: Mapping[str, str]

    def __init__(
        self,
        data: DataInfo,
        /,
        *,
        path: str,
        pretrained: bool = True,
        resize_head: bool = False,
        resize_inputs: bool = False,
        trust_remote_code: bool = False,
    ) -> None:
        super().__init__()
        folder = Path(path).expanduser()
        if trust_remote_code and os.environ.get(PERMISSION) != "1":
            raise InputError(
                f"transformers: trust_remote_code would run code from {folder}; if you trust it, pass"
                f" --trust-remote-code (or set {PERMISSION}=1)"
            )
        channels, height, width = image_shape(data, "transformers")
        self.model = _built(folder, data.classes, pretrained, resize_head, trust_remote_code)
        config: Any = self.model.config
        wanted = int(getattr(config, "num_channels", channels))
        if channels not in (1, wanted):
            raise InputError(f"transformers: {folder} takes images of {wanted} channels, but the data has {channels}")
        self.repeat = wanted if channels == 1 else 1
        self.size = _size(config) if resize_inputs else None
        if not resize_inputs and _size(config) not in (None, (height, width)):
            raise InputError(
                f"transformers: {folder} takes images of {_size(config)} pixels, but the data's are {(height, width)};"
                " set resize_inputs: true to scale them"
            )
        self.standard_taps = standard_taps_of(self.model, torch.zeros(2, wanted, *(self.size or (height, width))))
        self.standard_taps = {name: f"model.{tap}" for name, tap in self.standard_taps.items()}

    def forward(self, inputs: Tensor) -> Tensor:
        """``[batch, channels, height, width]`` to ``[batch, classes]`` logits."""
        if self.repeat > 1:
            inputs = inputs.expand(-1, self.repeat, -1, -1)
        if self.size is not None and inputs.shape[2:] != self.size:
            inputs = functional.interpolate(inputs, self.size, mode="bilinear", antialias=True)
        logits: Tensor = self.model(inputs).logits
        return logits

    def hub_config(self) -> dict[str, Any]:
        """What ``config.json`` must hold for transformers to read the folder."""
        config: Any = self.model.config
        return dict(json.loads(config.to_json_string(use_diff=False)))

    @classmethod
    def from_folder(cls, folder: Path, data: DataInfo, **args: Any) -> PretrainedClassifier:
        """The model that was saved to a folder, without its weights; the folder it once came from is not needed."""
        changed = {"pretrained": False, "resize_head": False}
        # The code of a model that has its own stays where it was.
        own = {} if args.get("trust_remote_code") else {"path": str(folder)}
        return cls(data, **{**args, **changed, **own})


def _size(config: Any) -> tuple[int, int] | None:
    size = getattr(config, "image_size", None)
    if isinstance(size, int):
        return size, size
    return (int(size[0]), int(size[1])) if isinstance(size, list | tuple) and len(size) == 2 else None


def _built(folder: Path, classes: int, pretrained: bool, resize_head: bool, trusted: bool) -> nn.Module:
    try:
        from safetensors import SafetensorError
        from transformers import AutoConfig, AutoModelForImageClassification
    except ImportError as error:
        raise InputError(
            f"the model 'transformers' needs more packages ({error}): pip install 'tutelage[vision]'"
        ) from error
    if not (folder / "config.json").is_file():
        raise InputError(f"transformers: {folder} has no config.json; it must be a folder that save_pretrained wrote")
    meta = torch.get_default_device().type == "meta"
    _refuse_pickles(folder, pretrained)
    common: dict[str, Any] = {"local_files_only": True, "trust_remote_code": trusted}
    try:
        config = AutoConfig.from_pretrained(folder, **common)
        if config.num_labels != classes:
            if not resize_head and pretrained:
                raise InputError(
                    f"transformers: {folder} has {config.num_labels} classes, but the data has {classes};"
                    " set resize_head: true to begin with a new head"
                )
            config.num_labels = classes
        # Shapes need no weights: on the meta device nothing is read.
        if not pretrained or meta:
            model = AutoModelForImageClassification.from_config(config, trust_remote_code=trusted)
        else:
            model = AutoModelForImageClassification.from_pretrained(
                folder, config=config, ignore_mismatched_sizes=resize_head, use_safetensors=True, **common
            )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise InputError(f"transformers: {folder} cannot be read: {error}") from error
    out: nn.Module = model
    return out.float()


def _refuse_pickles(folder: Path, pretrained: bool) -> None:
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    if pretrained and not any(folder.glob("*.safetensors")):
        found = f"only the pickle {pickles[0]}, which can run code when read" if pickles else "no weights"
        raise InputError(
            f"transformers: {folder} holds {found}; it needs model.safetensors (save_pretrained writes it), or set"
            " pretrained: false"
        )
