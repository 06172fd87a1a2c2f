"""One decision for all processes: that of the first."""

from __future__ import annotations

import torch
from accelerate import Accelerator


def agreed(accelerator: Accelerator, own: bool) -> bool:
    """What the first process says; every process must ask, for they wait for each other."""
    if accelerator.num_processes == 1:
        return own
    flag = torch.tensor([float(own and accelerator.is_main_process)], device=accelerator.device)
    return bool(accelerator.reduce(flag, "sum").item() > 0)
