"""Weights and optimiser states as checkpoints hold them: whole, whatever pieces the processes have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accelerate import Accelerator
from torch import nn

from tutelage.engine.optimization import Mover
from tutelage.models.participant import Participant


def sharded(accelerator: Accelerator) -> bool:
    """Whether each process holds a piece of every model."""
    return bool(accelerator.is_fsdp2)


def weights(accelerator: Accelerator, participant: Participant) -> dict[str, Any]:
    """A model's state by name; with pieces, every process must ask, and all but the first may receive nothing."""
    if not sharded(accelerator):
        return dict(participant.module.state_dict())
    return dict(accelerator.get_state_dict(participant.wrapped))


def load_weights(accelerator: Accelerator, participant: Participant, state: Mapping[str, Any]) -> None:
    """Put a whole state into a model."""
    if not sharded(accelerator):
        participant.module.load_state_dict(state)
        return
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    set_model_state_dict(participant.module, dict(state), options=StateDictOptions(full_state_dict=True))


def optimizer_state(accelerator: Accelerator, trained: Sequence[nn.Module], move: Mover) -> dict[str, Any]:
    """An optimiser's state."""
    if not sharded(accelerator):
        return dict(move.optimizer.state_dict())
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    whole = nn.ModuleList(trained)
    return dict(get_optimizer_state_dict(whole, _bare(move.optimizer), options=options))


def load_optimizer_state(
    accelerator: Accelerator, trained: Sequence[nn.Module], move: Mover, state: Mapping[str, Any]
) -> None:
    """Put a whole state into an optimiser."""
    if not sharded(accelerator):
        move.optimizer.load_state_dict(state)
        return
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

    options = StateDictOptions(full_state_dict=True)
    set_optimizer_state_dict(nn.ModuleList(trained), _bare(move.optimizer), dict(state), options=options)


def _bare(optimizer: Any) -> Any:
    return getattr(optimizer, "optimizer", optimizer)
