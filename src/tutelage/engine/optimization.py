"""Parameters into groups, groups into optimisers, and one move of an optimiser."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
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
        base: Base learning rate of each of its groups.
        makeup: Kind of optimiser, and names and shapes of the parameters of each group: whose state fits it.
    """

    turn: Turn
    optimizer: Any
    base: list[float]
    makeup: list[Any]

    def parameters(self) -> list[nn.Parameter]:
        """What it moves."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def clear(self) -> None:
        """Drop all gradients of what it moves."""
        if type(self.optimizer).zero_grad is torch.optim.Optimizer.zero_grad:
            # What torch's own does, less the note it leaves for a profiler: a small model feels it.
            for parameter in self.parameters():
                parameter.grad = None
        else:
            self.optimizer.zero_grad()

    def set_rate(self, multiplier: float) -> None:
        """Set every group's learning rate to this multiple of its base."""
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            group["lr"] = base * multiplier


def matched(named: Iterable[str], section: GroupSection) -> bool:
    """Whether a group's pattern fits any of these names."""
    return any(_fits(name, section) for name in named)


def _fits(name: str, section: GroupSection) -> bool:
    # A pattern is written for the model, not for the slot it fills: both spellings are accepted.
    return fnmatchcase(name, section.match) or fnmatchcase(name.partition(".")[2], section.match)


def groups_of(
    named: Mapping[str, nn.Parameter], sections: Sequence[GroupSection], scales: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Parameter groups: those that a section matches apart from the rest, those of another scale apart again.

    Args:
        named: Trainable parameters by name, ``participant.path``.
        sections: The recipe's groups; the first whose pattern matches a name has it.
        scales: Factors on the learning rate, by participant.
    """
    last = len(sections)
    buckets: dict[tuple[int, float], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        at = next((i for i, section in enumerate(sections) if _fits(name, section)), last)
        scale = (scales or {}).get(name.partition(".")[0], 1.0)
        buckets.setdefault((at, scale), []).append(parameter)
    groups: list[dict[str, Any]] = []
    for at, scale in sorted(buckets, key=lambda key: key[0]):
        group: dict[str, Any] = {"params": buckets[at, scale], "lr_scale": scale}
        if at < last:
            group["lr_scale"] = scale * sections[at].lr_scale
            if (decay := sections[at].weight_decay) is not None:
                group["weight_decay"] = decay
        groups.append(group)
    return groups


def movers(turns: Sequence[Turn], modules: Mapping[str, nn.Module], settings: TrainSection) -> list[Mover]:
    """The optimisers of a step's turns; a turn that has nothing to train has none.

    Args:
        turns: The turns.
        modules: What they train, by name.
        settings: How.

    Raises:
        InputError: A model that a turn trains has no trainable parameter, or a group's pattern matches nothing.
    """
    trained: list[tuple[Turn, dict[str, nn.Parameter]]] = []
    owned = {name for turn in turns for name in turn.owns}
    for turn in turns:
        named: dict[str, nn.Parameter] = {}
        for name in turn.trains:
            own = {f"{name}.{key}": p for key, p in modules[name].named_parameters() if p.requires_grad}
            if name == "method":
                own = {key: p for key, p in own.items() if _is_of(turn, key.split(".")[1], owned)}
            if not own and name != "method":
                raise InputError(f"'{name}' has nothing to train: every parameter of it is frozen, or it has none")
            named.update(own)
        if named:
            trained.append((turn, named))
    names = [name for _, named in trained for name in named]
    for section in settings.groups:
        if not matched(names, section):
            raise InputError(
                f"train.groups: '{section.match}' matches none of the {len(names)} trainable parameters. "
                f"{nearest(section.match, [name.partition('.')[2] for name in names])}"
            )
    return [_mover(turn, named, settings) for turn, named in trained]


def _is_of(turn: Turn, part: str, owned: Collection[str]) -> bool:
    """Whether a turn trains a part of what the method owns: one that it names, or one that no turn does."""
    return part in turn.owns if turn.owns else part not in owned


def _mover(turn: Turn, named: Mapping[str, nn.Parameter], settings: TrainSection) -> Mover:
    groups = groups_of(named, settings.groups, turn.scales)
    optimizer = turn.optimizer(groups) if turn.optimizer is not None else settings.optimizer.build(groups)
    names = {id(parameter): name for name, parameter in named.items()}
    makeup: list[Any] = [type(optimizer).__name__]
    makeup += [[[names[id(p)], list(p.shape)] for p in group["params"]] for group in groups]
    return Mover(turn, optimizer, [group["lr"] * group["lr_scale"] for group in optimizer.param_groups], makeup)


def total_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Norm of all gradients together; 0 where there is none."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    if all(type(g) is Tensor and g.device.type == "cpu" and g.layout == torch.strided for g in gradients):
        # The same arithmetic as below, without sorting the gradients by device first.
        flat: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        return flat
    norm = torch.nn.utils.get_total_norm(gradients)
    # Of gradients in shards every process has a part.
    whole: Tensor = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    return whole


def average_gradients(accelerator: Accelerator, module: nn.Module) -> None:
    """Average over processes the gradients of a module that no wrapper looks after."""
    if accelerator.num_processes > 1:
        for parameter in module.parameters():
            if parameter.requires_grad:
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = accelerator.reduce(gradient, "mean")


def divide(accelerator: Accelerator, parameters: Sequence[nn.Parameter], count: int) -> None:
    """Divide gradients that are sums over things by how many of them all processes had.

    Args:
        accelerator: Its wrappers have averaged the gradients over processes.
        parameters: Whose gradients.
        count: How many things this process had.
    """
    whole = torch.tensor(float(count), device=accelerator.device)
    if accelerator.num_processes > 1:
        whole = accelerator.reduce(whole, "sum")
    factor = accelerator.num_processes / max(float(whole), 1.0)
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(factor)


def bare(accelerator: Accelerator, optimizer: Any) -> Any:
    """The optimiser itself where Accelerate's wrapper would only pass calls on.

    The wrapper asks the file system for an optional package at every step, which costs a small model a tenth of its
    time. It is needed where gradients are scaled, and for engines that step in their own way.
    """
    plain = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
    if accelerator.scaler is None and accelerator.distributed_type in plain:
        return optimizer.optimizer
    return optimizer
