"""Exporting a run's model, with proof that it still says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tutelage.recipe.errors import InputError, nearest
from tutelage.recipe.runfolder import RunFolder

FORMATS = {"onnx": "onnx", "safetensors": "safetensors"}


def export_run(run: str | Path, to: str, output: str | Path | None = None) -> dict[str, Any]:
    """Write a run's model for another program, load it back and compare outputs on samples of the run's test split.

    Args:
        run: The run folder.
        to: ``onnx`` or ``safetensors``.
        output: The file; ``<run>/model/model.<format>`` unless given. (The run's own safetensors file is never
            overwritten.)

    Returns:
        ``path``, ``format``, ``bytes`` and ``max_difference``, the largest absolute difference of a logit.

    Raises:
        InputError: The format is unknown, the run has no model yet, or the extra packages are missing.
        RunError: The exported model computes something else.
    """
    if to not in FORMATS:
        raise InputError(f"there is no export format '{to}'. {nearest(to, FORMATS)}")
    folder = RunFolder.open(run)
    import torch

    from tutelage.models.export import export_onnx, export_safetensors
    from tutelage.models.weights import load_model, load_weights

    module = load_model(folder.path).eval()
    recipe = folder.recipe()
    spec = recipe.data
    test = spec.build().load(recipe.seed).test
    samples = test.fetch(range(min(8, len(test)))).inputs
    path = Path(output) if output is not None else folder.path / "export" / f"model.{FORMATS[to]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if to == "onnx":
        difference = export_onnx(module, samples, path)
    else:
        export_safetensors(module, path)
        again = load_model(folder.path)
        load_weights(again, path)
        with torch.no_grad():
            difference = float((again.eval()(samples) - module(samples)).abs().max())
    return {"path": str(path), "format": to, "bytes": path.stat().st_size, "max_difference": difference}
