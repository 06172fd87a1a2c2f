"""Trained weights kept by what they were trained from: the same content is never trained twice."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import tutelage
from tutelage.engine import checkpoint
from tutelage.recipe.spec import fingerprint

_ROOMS = ("engine", "models", "data", "losses")


def cache_root() -> Path:
    """Where trained weights are kept: ``$TUTELAGE_CACHE``, or ``tutelage`` in the user's cache folder."""
    own = os.environ.get("TUTELAGE_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tutelage"


@functools.cache
def _code() -> str:
    """Hash of the source that training depends on: a changed loop must not find what the old one trained."""
    digest = hashlib.sha256()
    home = Path(tutelage.__file__).parent
    for room in _ROOMS:
        for path in sorted((home / room).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def key_of(**content: Any) -> str:
    """Key of what is trained from this content, with this code and this torch."""
    return fingerprint({**content, "code": _code(), "torch": torch.__version__})


def find(key: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Models' states by name, and the record of their training; ``None`` where nothing whole is kept."""
    folder = cache_root() / "trained" / key
    try:
        _, state = checkpoint.load(folder / "step-0000000000")
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    except (checkpoint.Damaged, OSError, ValueError):
        return None
    return state, record


def keep(key: str, models: Mapping[str, Mapping[str, Any]], record: Mapping[str, Any]) -> None:
    """Keep trained models; what cannot be written is not kept, for a cache may fail without harm."""
    root = cache_root() / "trained"
    beside = root / f".{key}.{uuid.uuid4().hex[:8]}"
    try:
        checkpoint.save(beside, 0, models, keep=1)
        (beside / "record.json").write_text(json.dumps(record), encoding="utf-8")
        os.rename(beside, root / key)
    except Exception as error:
        shutil.rmtree(beside, ignore_errors=True)
        if not isinstance(error, OSError | checkpoint.RunError):
            raise
