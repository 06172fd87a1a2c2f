"""Trained weights kept by what they were trained from: the same content is never trained twice."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

import tutelage
from tutelage.engine import checkpoint
from tutelage.recipe.errors import RunError
from tutelage.recipe.index import cache_root
from tutelage.recipe.spec import fingerprint

_ROOMS = ("engine", "models", "data", "losses")


@functools.cache
def _code() -> str:
    """Hash of the source that training depends on: a changed loop must not find what the old one trained."""
    digest = hashlib.sha256()
    home = Path(tutelage.__file__).parent
    for room in _ROOMS:
        for path in sorted((home / room).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def key_of(**content: Any) -> str:
    """Key of what is trained from this content, with this code and this torch."""
    return fingerprint({**content, "code": _code(), "torch": torch.__version__})


def content_of(module: nn.Module) -> str:
    """Hash of a model's weights as they are now."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def sources_of(*parts: object) -> dict[str, str]:
    """Hashes of the files that define what is neither Tutelage's nor torch's: the user's own code, and plugins'."""
    out: dict[str, str] = {}
    for kind in {type(part) for part in parts}:
        top = kind.__module__.partition(".")[0]
        if top in ("torch", "tutelage", "builtins") or kind.__module__ in out:
            continue
        path = getattr(sys.modules.get(kind.__module__), "__file__", None)
        out[kind.__module__] = hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else ""
    return out


def find(key: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Models' states by name, and the record of their training; ``None`` where nothing whole is kept."""
    folder = cache_root() / "trained" / key
    try:
        _, state = checkpoint.load(folder / "step-0000000000")
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    except (checkpoint.Damaged, RunError, OSError, ValueError):
        return None
    return state, record


def keep(key: str, models: Mapping[str, Mapping[str, Any]], record: Mapping[str, Any]) -> None:
    """Keep trained models; what cannot be written is not kept, for a cache may fail without harm."""
    root = cache_root() / "trained"
    beside = root / f".{key}.{uuid.uuid4().hex[:8]}"
    try:
        checkpoint.save(beside, 0, models, keep=1)
        (beside / "record.json").write_text(json.dumps(record), encoding="utf-8")
        # What is there was not found whole, or another process kept the same in the meantime.
        shutil.rmtree(root / key, ignore_errors=True)
        os.rename(beside, root / key)
    except (OSError, RunError):
        shutil.rmtree(beside, ignore_errors=True)
