"""Finding and reading files of weights; pickles are recognised by content and refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.recipe.errors import InputError, nearest

_FILE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt")
# Zip archives (torch.save), pickles of protocols 2 to 5, and torch.save before 1.6.
_MAGIC = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def read_tensors(source: Path, *, trust_pickle: bool = False) -> tuple[Path, dict[str, Tensor]]:
    """Tensors by name of a safetensors file, a model folder (one file or several with an index), or a run folder.

    Args:
        source: The file or folder.
        trust_pickle: Also read pickles, which can run code when read.

    Returns:
        The file that was read (of several, their index) and its tensors, on the processor.

    Raises:
        InputError: There is nothing to read, or what there is is a pickle or damaged.
    """
    path = _locate(source, trust_pickle)
    if path.name == _INDEX:
        return path, _sharded(path)
    if path.suffix in _PICKLES or _is_pickle(path):
        if not trust_pickle:
            raise InputError(_refusal(path))
        return path, _unpickled(path)
    return path, _safetensors(path)


def _locate(source: Path, trust_pickle: bool) -> Path:
    source = source.expanduser()
    if not source.exists():
        raise InputError(f"there are no weights at {source}. {_near(source)}".rstrip())
    if source.is_file():
        return source
    for folder in (source, source / "model"):
        for name in (_FILE, _INDEX):
            if (folder / name).is_file():
                return folder / name
    files = sorted(path for path in source.iterdir() if path.is_file())
    pickles = [path for path in files if path.suffix in _PICKLES]
    if pickles:
        return pickles[0]
    if (source / "manifest.json").is_file():
        raise InputError(f"the run {source} has no model yet: it did not finish (`tutelage resume {source}` goes on)")
    others = [path.name for path in files if path.suffix == ".safetensors"]
    hint = f"Name the file: {', '.join(others)}." if others else f"It holds {len(files)} other files."
    raise InputError(f"the folder {source} has no {_FILE}. {hint}")


def _near(source: Path) -> str:
    """The nearest name in the deepest folder of the path that exists."""
    for parent in source.parents:
        if parent.is_dir():
            wanted = source.relative_to(parent).parts[0]
            names = [path.name for path in parent.iterdir() if not path.name.startswith(".")]
            return f"{nearest(wanted, names)} (in {parent})" if names else f"({parent} is empty.)"
    return ""


def _is_pickle(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(8).startswith(_MAGIC)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def _refusal(path: Path) -> str:
    return (
        f"{path} is a pickle, which can run code when it is read. Convert it once, where you trust it:\n"
        "  import torch, safetensors.torch\n"
        f"  safetensors.torch.save_file(torch.load({str(path)!r}, weights_only=True),"
        f" {str(path.with_suffix('.safetensors'))!r})\n"
        "or pass --trust-pickle."
    )


def _unpickled(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as careful:  # a pickle can fail in any way
        try:
            content = torch.load(path, map_location="cpu", weights_only=False)
        except Exception as error:  # as above
            raise InputError(f"{path} cannot be read: {error}") from careful
    if isinstance(content, nn.Module):
        return dict(content.state_dict())
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path} holds a {type(content).__name__}, expected a mapping of names to tensors")
    return {str(name): tensor for name, tensor in content.items()}


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"{path} is damaged, or no safetensors file: {error}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def _sharded(path: Path) -> dict[str, Tensor]:
    try:
        index: Any = json.loads(path.read_text(encoding="utf-8"))
        files = sorted({Path(name).name for name in index["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    tensors: dict[str, Tensor] = {}
    for name in files:
        if not (path.parent / name).is_file():
            raise InputError(f"{path.parent / name} is missing, which {path.name} names")
        tensors |= _safetensors(path.parent / name)
    return tensors
