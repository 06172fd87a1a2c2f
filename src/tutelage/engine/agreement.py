"""One decision for all processes: that of the first; and sums that all of them contribute to."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import Tensor


def agreed(accelerator: Accelerator, own: bool) -> bool:
    """What the first process says; every process must ask, for they wait for each other."""
    if accelerator.num_processes == 1:
        return own
    flag = torch.tensor([float(own and accelerator.is_main_process)], device=accelerator.device)
    return bool(accelerator.reduce(flag, "sum").item() > 0)


def summed(values: Tensor) -> Tensor:
    """The sum of every process's values; each must ask, for they wait for each other."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        values = values.clone()
        torch.distributed.all_reduce(values)
    return values
