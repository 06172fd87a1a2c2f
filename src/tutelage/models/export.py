"""Students that leave PyTorch: ONNX, checked against the model it came from, and plain safetensors."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.models.inert import evaluating
from tutelage.models.weights import write_safetensors
from tutelage.recipe.errors import InputError, RunError

_LIMIT = 2 * 1024**3


def export_onnx(module: nn.Module, example: Tensor, path: str | Path, *, tolerance: float = 1e-4) -> float:
    """Write a model as ONNX with a free batch size, and compare it with the model in onnxruntime.

    Args:
        module: The model on the processor, ``[batch, *input_shape]`` to ``[batch, classes]`` logits.
        example: ``[batch, *input_shape]`` real samples, on which the two are compared, also one sample alone.
        path: The file, written whole or not at all; input ``inputs``, output ``logits``.
        tolerance: Largest difference allowed, relative to the largest logit.

    Returns:
        The largest absolute difference of a logit.

    Raises:
        InputError: The extra packages are not installed, or the model cannot be exported.
        RunError: The exported model computes something else, or the file cannot be written.
    """
    ort = _onnxruntime()
    path = Path(path)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    # Two samples at least: one would be taken for a size that never changes.
    sample = example if len(example) > 1 else torch.cat([example, example])
    try:
        with evaluating(module), torch.no_grad():
            _write(module, sample, beside)
            session = ort.InferenceSession(str(beside), providers=["CPUExecutionProvider"])
            worst = max(_difference(module, session, part, tolerance) for part in (sample, sample[:1]))
        os.replace(beside, path)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        for left in path.parent.glob(f"{beside.name}*"):
            left.unlink(missing_ok=True)
    return worst


def export_safetensors(module: nn.Module, path: str | Path) -> Path:
    """Write a model's weights as one safetensors file, whole or not at all; `load_weights` reads it.

    Args:
        module: The model.
        path: The file.

    Raises:
        RunError: It cannot be written.
    """
    write_safetensors(module, Path(path))
    return Path(path)


def _onnxruntime() -> Any:
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(f"export to ONNX needs more packages ({error}): pip install 'tutelage[export]'") from error
    return onnxruntime


def _write(module: nn.Module, sample: Tensor, path: Path) -> None:
    size = sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())
    if size > _LIMIT:
        raise InputError(f"the model's weights take {size / 1024**3:.1f} GiB; one ONNX file holds at most 2")
    try:
        torch.onnx.export(
            module,
            (sample,),
            path,
            input_names=["inputs"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise InputError(f"the model {type(module).__name__} cannot be exported to ONNX: {reason}") from error


def _difference(module: nn.Module, session: Any, inputs: Tensor, tolerance: float) -> float:
    ours = module(inputs)
    (theirs,) = session.run(None, {"inputs": inputs.numpy()})
    worst = float((ours - torch.from_numpy(theirs)).abs().max())
    scale = max(float(ours.abs().max()), 1e-6)
    # Not "greater": a difference that is no number fails too.
    if not worst <= tolerance * scale:
        raise RunError(
            f"the exported model differs from the model by {worst:.3g} for a batch of {len(inputs)}"
            f" (largest logit {scale:.3g}, allowed {tolerance:g} of it); nothing was written"
        )
    return worst
