"""Weights on disk: safetensors only, each mistake named, and enough beside them to build the model again."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.models.parts import parts_of, restore_parts
from tutelage.models.weight_files import find_weights, read_tensors
from tutelage.recipe.checking import Checker
from tutelage.recipe.errors import InputError, RecipeError, RunError, nearest
from tutelage.recipe.registry import registry
from tutelage.recipe.runfolder import atomic_write
from tutelage.recipe.spec import Spec, plain, thaw
from tutelage.recipe.yaml_source import Place, from_python

__all__ = [
    "CONFIG",
    "WEIGHTS",
    "describe",
    "find_weights",
    "load_model",
    "load_tensors",
    "load_weights",
    "read_config",
    "save_weights",
    "write_safetensors",
]

WEIGHTS, CONFIG, FORMAT = "model.safetensors", "config.json", 1
_WRAPPERS = ("module.", "_orig_mod.")


def load_weights(module: nn.Module, source: str | Path, *, trust_pickle: bool = False) -> Path:
    """Load weights into a module, in place: all of them, or none.

    Where the file's model has parts in place of its own, such as another head, the module gets them first.

    Args:
        module: The model; names and shapes must be those of the file.
        source: A ``.safetensors`` file, a model folder, or a run folder.
        trust_pickle: Also read pickles (``.pt``, ``.pth``, ``.bin``, ...), which can run code when read.

    Returns:
        The file that was read.

    Raises:
        InputError: There is no such file, it is a pickle or damaged, or its tensors are not the model's; the text lists
            what differs.
    """
    path, found = read_tensors(Path(source), trust_pickle=trust_pickle)
    restore_parts(module, _parts(path.parent / CONFIG), str(path.parent / CONFIG))
    load_tensors(module, found, str(path))
    return path


def load_tensors(module: nn.Module, found: Mapping[str, Tensor], where: str) -> None:
    """Load tensors by name into a module, in place: all of them, or none.

    Args:
        module: The model.
        found: Tensors by name, as `torch.nn.Module.state_dict` has them; tied ones once or repeatedly.
        where: How errors call their source.

    Raises:
        InputError: Names, shapes or kinds of number differ, or a parameter holds NaN.
    """
    wanted = module.state_dict(keep_vars=True)
    tensors = _renamed(module, found, wanted)
    aliases: dict[int, list[str]] = {}
    for name, tensor in wanted.items():
        aliases.setdefault(id(tensor), []).append(name)
    for names in aliases.values():
        present = [name for name in names if name in tensors]
        if any(not torch.equal(tensors[present[0]], tensors[name]) for name in present[1:]):
            raise InputError(f"{where}: {' and '.join(present)} differ, but the model has one tensor for them")
        if present:
            tensors.update({name: tensors[present[0]] for name in names if name not in tensors})
    problems = _differences(tensors, wanted)
    problems += [f"  {n}: holds NaN" for n, _ in module.named_parameters() if n in tensors and tensors[n].isnan().any()]
    if problems:
        raise InputError(f"{where} does not fit the model {type(module).__name__}:\n" + "\n".join(problems))
    with torch.no_grad():
        module.load_state_dict(tensors)


def _renamed(module: nn.Module, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the model's own names: wrappers' prefixes taken off, a prefix left out when saving put back."""
    tensors = dict(found)
    for prefix in _WRAPPERS:
        if tensors and all(name.startswith(prefix) for name in tensors) and not set(tensors) & set(wanted):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    prefix = getattr(module, "weights_prefix", "")
    if prefix and not any(name.startswith(prefix) for name in tensors):
        tensors = {prefix + name: tensor for name, tensor in tensors.items()}
    return tensors


def _differences(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], limit: int = 10) -> list[str]:
    shapes, kinds = [], []
    for name in wanted:
        if name not in found:
            continue
        old, new = wanted[name], found[name]
        if old.shape != new.shape:
            shapes.append(f"  {name}: expected shape {list(old.shape)}, found {list(new.shape)}")
        elif old.is_floating_point() != new.is_floating_point():
            kinds.append(f"  {name}: expected {old.dtype}, found {new.dtype}")
    missing = [name for name in wanted if name not in found]
    spare = [name for name in found if name not in wanted]
    lost = [f"  {name}: missing. {_hint(name, spare)}".rstrip() for name in missing]
    extra = [f"  {name}: not in the model. {_hint(name, missing)}".rstrip() for name in spare]
    out: list[str] = []
    for group in (shapes, kinds, lost, extra):
        out += group[:limit]
        if len(group) > limit:
            out.append(f"  ... and {len(group) - limit} more like these")
    return out


def _hint(name: str, choices: list[str]) -> str:
    """The nearest name, where one is near; a list of all of them at every line would bury the others."""
    hint = nearest(name, choices)
    return hint if hint.startswith("Did") else ""


def save_weights(module: nn.Module, folder: str | Path, config: Mapping[str, Any]) -> Path:
    """Write ``model.safetensors`` and ``config.json``, each whole or not at all.

    A tensor that has several names is stored under its first. A model of transformers is written so that transformers
    reads the folder too.

    Args:
        module: The model, not a wrapper around it.
        folder: Where to; made if it is not there.
        config: How to build it again, see `describe`.

    Returns:
        The folder.

    Raises:
        RunError: The disk is full or cannot be written.
    """
    folder = Path(folder)
    content = {**_hub_config(module), "format": FORMAT, **plain(config)}
    if parts := parts_of(module):
        content["parts"] = parts
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder} cannot be made: {error.strerror or error}") from error
    write_safetensors(module, folder / WEIGHTS)
    # Last, so that a folder that has it has its weights.
    atomic_write(folder / CONFIG, json.dumps(content, indent=2, sort_keys=True, default=str) + "\n")
    return folder


def write_safetensors(module: nn.Module, path: Path) -> None:
    """Write a module's state as one safetensors file, whole or not at all.

    Raises:
        RunError: The disk is full or cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    prefix = getattr(module, "weights_prefix", "")
    seen: set[int] = set()
    tensors: dict[str, Tensor] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            # A copy only where two names view one memory, which the format refuses.
            tensors[name.removeprefix(prefix)] = tensor.detach().contiguous()
            seen.add(id(tensor))
    storages: dict[int, int] = {}
    for tensor in tensors.values():
        storages[tensor.untyped_storage().data_ptr()] = storages.get(tensor.untyped_storage().data_ptr(), 0) + 1
    tensors = {n: t.clone() if storages[t.untyped_storage().data_ptr()] > 1 else t for n, t in tensors.items()}
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        try:
            save_file(tensors, beside, metadata={"format": "pt"})
            with open(beside, "rb") as file:
                os.fsync(file.fileno())
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from error
    except SafetensorError as error:
        # Its own error carries what the system said, e.g. that the disk is full, as text only.
        raise RunError(f"{path} cannot be written: {error}") from error


def _hub_config(module: nn.Module) -> dict[str, Any]:
    config = getattr(module, "hub_config", None)
    return dict(config()) if callable(config) else {}


def describe(name: str, args: Mapping[str, Any], data: DataInfo) -> dict[str, Any]:
    """What `save_weights` stores for `load_model` to build a model from.

    Args:
        name: The component, or ``package.module:Class``.
        args: Its arguments.
        data: What it was built for.
    """
    return {"model": {"name": name, "args": plain(args)}, "data": asdict(data)}


def load_model(folder: str | Path) -> nn.Module:
    """Build the model that `save_weights` wrote and load its weights, for use; the random state does not move.

    Args:
        folder: A model folder, or a run folder.

    Raises:
        InputError: The folder has no usable ``config.json``, the component or an argument of it is unknown, or the
            weights do not fit.
    """
    weights = find_weights(folder)
    folder = weights.parent
    spec, data = read_config(folder)
    with torch.random.fork_rng(devices=[]):
        again = None if spec.foreign else getattr(registry().load("model", spec.name), "from_folder", None)
        module = spec.build(data) if again is None else again(folder, data, **thaw(spec.args))
    if not isinstance(module, nn.Module):
        raise InputError(f"the model '{spec.name}' is a {type(module).__name__}, not a torch.nn.Module")
    load_weights(module, weights)
    return module.eval()


def read_config(folder: Path) -> tuple[Spec, DataInfo]:
    """The model that a model folder describes, its arguments checked, and the data that it was built for.

    Raises:
        InputError: There is no ``config.json``, it does not say these, or what it names does not exist here.
    """
    path = folder / CONFIG
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{folder} does not say how to build its model: it has no {CONFIG}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict) or not {"model", "data"} <= content.keys():
        raise InputError(f"{path} does not say how to build the model: it was not written by Tutelage")
    if content.get("format", FORMAT) not in range(1, FORMAT + 1):
        raise InputError(f"{path} has format {content['format']!r}; this Tutelage reads up to {FORMAT}")
    try:
        model, info = content["model"], content["data"]
        described = {"model": str(model["name"]), **model["args"]}
        shape, names = tuple(map(int, info["input_shape"])), tuple(map(str, info["class_names"]))
        data = DataInfo(shape, int(info["classes"]), names, str(info["fingerprint"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    checker = Checker(registry())
    spec = checker.component("model", from_python(described, place=Place(str(path))), ())
    if checker.problems or not isinstance(spec, Spec):
        raise RecipeError(problems=tuple(checker.problems))
    return spec, data


def _parts(config: Path) -> Mapping[str, Any]:
    """What a model folder says was put in place of the model's own parts; nothing where it is none of ours."""
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content.get("parts", {}) if isinstance(content, dict) and "format" in content else {}
