"""What of a stage is saved, and how it goes on from there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tutelage.engine import checkpoint, shards

if TYPE_CHECKING:
    from torch import nn

    from tutelage.engine.trainer import Trainer


def state_of(trainer: Trainer) -> dict[str, Any]:
    """Everything that moves; with several processes, each must ask."""
    accelerator = trainer.accelerator
    return {
        "step": trainer.step,
        "epoch": trainer.epoch,
        "position": trainer.position,
        "past_epochs": trainer.past_epochs,
        "models": {
            n: shards.weights(accelerator, trainer.participant(n)) for n in (*trainer.trainable, *trainer.followers)
        },
        "method": trainer.method.state_dict(),
        "optimizers": {
            m.turn.name: {"makeup": m.makeup, "state": shards.optimizer_state(accelerator, trainer.trained(m), m)}
            for m in trainer.movers
        },
        "scaler": accelerator.scaler.state_dict() if accelerator.scaler is not None else {},
        "callbacks": [c.state_dict() for c in trainer.callbacks],
        "meter": trainer.meter.state_dict(),
        "history": trainer.history,
        "seconds": trainer.seconds,
        "cpu_seconds": trainer.cpu_seconds,
    }


def restore(trainer: Trainer) -> None:
    """Go on from the stage's newest whole checkpoint, if it has one."""
    found = checkpoint.latest(trainer.folder / "checkpoints", warn=trainer.listener.note)
    if found is None:
        return
    _, state = found
    trainer.step, trainer.epoch, trainer.position = state["step"], state["epoch"], state["position"]
    trainer.past_epochs = state["past_epochs"]
    for name, weights in state["models"].items():
        shards.load_weights(trainer.accelerator, trainer.participant(name), weights)
    trainer.method.load_state_dict(state["method"])
    for move in trainer.movers:
        own = state["optimizers"][move.turn.name]["state"]
        shards.load_optimizer_state(trainer.accelerator, trainer.trained(move), move, own)
    if trainer.accelerator.scaler is not None and state["scaler"]:
        trainer.accelerator.scaler.load_state_dict(state["scaler"])
    for callback, own in zip(trainer.callbacks, state["callbacks"], strict=True):
        callback.load_state_dict(own)
    trainer.meter.load_state_dict(state["meter"])
    trainer.history = state["history"]
    trainer.seconds, trainer.cpu_seconds = state["seconds"], state["cpu_seconds"]
    trainer.listener.note(f"stage '{trainer.stage.name}' goes on from step {trainer.step} of {trainer.total}")


def go_on_from(trainer: Trainer, earlier: Mapping[str, Any]) -> None:
    """Take over from the stage that this one continues: the place in the data, and what still fits.

    What the method owns goes on where it is of the same names and shapes; the state of an optimiser where it is of the
    same kind and moves the same parameters. The settings of the groups are always those of this stage.
    """
    trainer.past_epochs = earlier["past_epochs"] + earlier["epoch"]
    if _same_shapes(trainer.method, earlier["method"]):
        trainer.method.load_state_dict(earlier["method"])
    for move in trainer.movers:
        saved = earlier["optimizers"].get(move.turn.name)
        if saved is None or saved["makeup"] != move.makeup:
            continue
        settings = [{k: v for k, v in group.items() if k != "params"} for group in move.optimizer.param_groups]
        shards.load_optimizer_state(trainer.accelerator, trainer.trained(move), move, saved["state"])
        for group, own in zip(move.optimizer.param_groups, settings, strict=True):
            group.update(own)


def _same_shapes(module: nn.Module, state: Mapping[str, Any]) -> bool:
    own = module.state_dict()
    return own.keys() == state.keys() and all(own[name].shape == state[name].shape for name in own)
