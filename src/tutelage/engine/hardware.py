"""The machine as a run uses it: devices, precision and processes through Accelerate; the memory it took."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import DistributedDataParallelKwargs

from tutelage.recipe.errors import InputError
from tutelage.recipe.spec import Recipe


def accelerator_for(recipe: Recipe, folder: Path) -> Accelerator:
    """Accelerate, set up as the recipe and the launcher say.

    Raises:
        InputError: The precision does not exist on this device, or a tracker is not installed.
    """
    # Accelerate remembers its first configuration for the process; a second run may want another.
    if AcceleratorState._shared_state and AcceleratorState().num_processes == 1:
        AcceleratorState._reset_state(reset_partial_state=True)
    trackers = [tracker.build() for tracker in recipe.trackers]
    # Accelerate itself only warns of what is missing, and the run goes on without.
    installed = {str(getattr(name, "value", name)) for name in get_available_trackers()}
    missing = [tracker.name for tracker in trackers if tracker.name not in installed]
    if missing:
        raise InputError(f"trackers: {', '.join(missing)} is not installed: pip install 'tutelage[track]'")
    try:
        accelerator = Accelerator(
            mixed_precision=recipe.train.precision,
            log_with=[tracker.name for tracker in trackers] or None,
            project_dir=str(folder / "trackers"),
            # A method may leave parts of a model without a gradient, e.g. the head when only relations are matched.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
    except (ValueError, ImportError) as error:
        raise InputError(f"train.precision {recipe.train.precision} or trackers: {error}") from error
    if recipe.train.precision == "fp16" and accelerator.scaler is None:
        raise InputError(f"train.precision: fp16 needs a GPU, and this is a {accelerator.device}; bf16 runs anywhere")
    if trackers:
        accelerator.init_trackers(
            recipe.name,
            config={"method": recipe.method.name, "seed": recipe.seed},
            init_kwargs={tracker.name: tracker.options() for tracker in trackers},
        )
    return accelerator


def peak_memory(device: torch.device) -> float:
    """Largest memory held so far, in bytes: of the GPU where there is one, of the process otherwise."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    scale = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale)
