"""Looking at the validation split in the middle of a stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tutelage.data.batch import Batch
from tutelage.data.splits import ids_of
from tutelage.engine.method import Step
from tutelage.models.participant import Participant
from tutelage.recipe.errors import InputError

if TYPE_CHECKING:
    from tutelage.engine.trainer import Trainer


def check_validation(trainer: Trainer, callback: str, metric: str) -> None:
    """Refuse a callback that decides by validation where nothing may be looked at.

    Raises:
        InputError: The data has no validation split, or it holds samples of a domain that is held out.
    """
    if trainer.validation is None:
        raise InputError(
            f"callbacks: '{callback}' watches the validation {metric}, but the data has no validation split; set "
            "data.validation_fraction or leave the callback out"
        )
    if trainer.splits.domains is not None:
        trainer.splits.domains.refuse_held_out(ids_of(trainer.validation), f"callbacks: '{callback}'")


def scores_of(trainer: Trainer) -> dict[str, float]:
    """What validation says of the model that is looked at, as it is now."""
    subject = trainer.subject
    assert trainer.validation is not None

    return dict(trainer.method.validate(subject, trainer.validation, trainer.device))


def loss_of(trainer: Trainer) -> float:
    """Mean over the validation split of what the turns that train the looked-at model minimise, as it is now."""
    assert trainer.validation is not None
    examples, size, subject = trainer.validation, trainer.settings.batch_size, trainer.stage.validated
    # What is remembered or stored is so of the training samples only.
    participants = {n: p if isinstance(p, Participant) else p.participant for n, p in trainer.participants.items()}
    turns = [move.turn for move in trainer.movers if subject in move.turn.trains]
    training, total, weight = trainer.method.training, 0.0, 0
    try:
        trainer.method.eval()
        for one in participants.values():
            one.mode(False)
        with torch.no_grad(), trainer.accelerator.autocast():
            for start in range(0, len(examples), size):
                batch = examples.fetch(range(start, min(start + size, len(examples)))).to(trainer.device)
                progress = trainer.step / trainer.total
                step = Step(batch, participants, trainer.step, trainer.epoch, progress, training=False)
                for turn in turns:
                    losses = turn.loss(step)
                    share = len(batch) if losses.count is None else losses.count
                    total, weight = total + float(losses.total()) * share, weight + share
    finally:
        trainer.method.train(training)
        for one in participants.values():
            one.mode(True)
    # Turns are added up, each a mean.
    return total / max(weight / len(turns), 1)


@contextmanager
def wearing(module: nn.Module, state: Mapping[str, Tensor]) -> Iterator[None]:
    """The module with other weights for a while."""
    own = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
    module.load_state_dict(state)
    try:
        yield
    finally:
        module.load_state_dict(own)


def plain_batches(trainer: Trainer) -> Iterator[Batch]:
    """The stage's training samples in their own order, as they are: beside the loop's batches, not instead of them."""
    size = trainer.settings.batch_size
    for start in range(0, len(trainer.examples), size):
        yield trainer.examples.fetch(range(start, min(start + size, len(trainer.examples)))).to(trainer.device)
