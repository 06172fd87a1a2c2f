"""Parameters into groups, groups into optimisers, and one move of an optimiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from tutelage.engine.method import Turn
from tutelage.recipe.errors import InputError, nearest
from tutelage.recipe.spec import GroupSection, TrainSection


@dataclass
class Mover:
    """A turn with its optimiser.

    Args:
        turn: What is minimised, and for whom.
        optimizer: As Accelerate prepared it.
        modules: What it trains.
        base: Base learning rate of each of its groups.
    """

    turn: Turn
    optimizer: Any
    modules: tuple[nn.Module, ...]
    base: list[float]

    def parameters(self) -> list[nn.Parameter]:
        """What it moves."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def set_rate(self, multiplier: float) -> None:
        """Set every group's learning rate to this multiple of its base."""
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            group["lr"] = base * multiplier


def groups_of(named: Mapping[str, nn.Parameter], sections: Sequence[GroupSection]) -> list[dict[str, Any]]:
    """Parameter groups: one for each section that matches something, and one for the rest.

    Args:
        named: Trainable parameters by name.
        sections: The recipe's groups; the first whose pattern matches a name has it.

    Raises:
        InputError: A pattern matches no parameter.
    """
    buckets: list[list[nn.Parameter]] = [[] for _ in range(len(sections) + 1)]
    for name, parameter in named.items():
        # A pattern is written for the model, not for the slot it fills: both spellings are accepted.
        spellings = (name, name.partition(".")[2])
        place = next(
            (i for i, s in enumerate(sections) if any(fnmatchcase(spelling, s.match) for spelling in spellings)), -1
        )
        buckets[place].append(parameter)
    groups: list[dict[str, Any]] = []
    for section, bucket in zip(sections, buckets, strict=False):
        if not bucket:
            names = [name.partition(".")[2] for name in named]
            raise InputError(
                f"train.groups: '{section.match}' matches none of the {len(named)} trainable parameters. "
                f"{nearest(section.match, names)}"
            )
        group: dict[str, Any] = {"params": bucket, "lr_scale": section.lr_scale}
        if section.weight_decay is not None:
            group["weight_decay"] = section.weight_decay
        groups.append(group)
    if buckets[-1]:
        groups.append({"params": buckets[-1], "lr_scale": 1.0})
    return groups


def mover(turn: Turn, modules: Mapping[str, nn.Module], settings: TrainSection) -> Mover | None:
    """The optimiser of a turn, or ``None`` for a turn that has nothing to train.

    Raises:
        InputError: A model that the turn trains has no trainable parameter.
    """
    named: dict[str, nn.Parameter] = {}
    for name in turn.trains:
        own = {f"{name}.{key}": p for key, p in modules[name].named_parameters() if p.requires_grad}
        if not own and name != "method":
            raise InputError(f"'{name}' has nothing to train: every parameter of it is frozen, or it has none")
        named.update(own)
    if not named:
        return None
    optimizer = settings.optimizer.build(groups_of(named, settings.groups))
    base = [group["lr"] * group["lr_scale"] for group in optimizer.param_groups]
    return Mover(turn, optimizer, tuple(modules[name] for name in turn.trains), base)


def total_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Norm of all gradients together; 0 where there is none."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients) if gradients else torch.zeros(())


def average_gradients(accelerator: Accelerator, module: nn.Module) -> None:
    """Average over processes the gradients of a module that no wrapper looks after."""
    if accelerator.num_processes > 1:
        for parameter in module.parameters():
            if parameter.requires_grad:
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = accelerator.reduce(gradient, "mean")  # type: ignore[assignment]


ScheduleOf = Callable[[int], float]
