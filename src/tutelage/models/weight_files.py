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


def find_weights(source: str | Path, *, trust_pickle: bool = False) -> Path:
    """The file that a source of weights means; nothing but its first bytes is read.

    Args:
        source: A ``.safetensors`` file, a model folder (``model.safetensors``, or an index of several files), or a run
            folder (``model/model.safetensors``).
        trust_pickle: Also accept pickles.

    Raises:
        InputError: There is none, and the text says what lies nearest; or it is a pickle, and the text says how to
            convert it.
    """
    path = _locate(Path(source), trust_pickle)
    if path.name != _INDEX and not trust_pickle and _is_pickle(path):
        raise InputError(_refusal(path))
    return path


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
    path = find_weights(source, trust_pickle=trust_pickle)
    if path.name == _INDEX:
        return path, _sharded(path)
    return path, _unpickled(path) if _is_pickle(path) else _safetensors(path)


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
    hint = f"Name the file: {', '.join(others)}." if others else "It is neither a model folder nor a run."
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
            start = file.read(9)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    # A safetensors file begins with the length of its JSON header: a number that may look like the start of a pickle.
    if start[8:] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size - 8:
        return False
    return path.suffix in _PICKLES or start.startswith(_MAGIC)


def _refusal(path: Path) -> str:
    return (
        f"{path} is a pickle, which can run code when it is read. Convert it once, where you trust it:\n"
        f"  import torch, safetensors.torch; weights = torch.load({str(path)!r}, weights_only=True)\n"
        "  safetensors.torch.save_file({name: value.clone() for name, value in weights.items()},"
        f" {str(path.with_suffix('.safetensors'))!r})\n"
        "or pass --trust-pickle."
    )


def _unpickled(path: Path) -> dict[str, Tensor]:
    try:
        content = _torch_load(path, careful=True)
    except Exception as careful:  # a pickle can fail in any way
        try:
            content = _torch_load(path, careful=False)
        except Exception as error:  # as above
            raise InputError(f"{path} cannot be unpickled: {error}") from careful
    if isinstance(content, nn.Module):
        return dict(content.state_dict())
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(value, Tensor) for value in content.values())
    ):
        raise InputError(f"{path} holds a {type(content).__name__}, expected a mapping of names to tensors")
    return {str(name): tensor for name, tensor in content.items()}


def _torch_load(path: Path, *, careful: bool) -> Any:
    # An open file, for torch chooses its reader by the name, and a pickle may be called anything.
    with open(path, "rb") as file:
        return torch.load(file, map_location="cpu", weights_only=careful)


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, ValueError, KeyError) as error:
        with open(path, "rb") as file:
            if file.read(24).startswith(b"version https://git-lfs"):
                raise InputError(
                    f"{path} stands for weights that Git LFS has not fetched; run `git lfs pull`"
                ) from error
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
