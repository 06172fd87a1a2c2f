"""Freezing parts of a model so that they stay frozen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from torch import nn

from tutelage.models.paths import matches, modules_of
from tutelage.recipe.errors import InputError, nearest


def freeze(module: nn.Module, globs: Iterable[str]) -> list[str]:
    """Freeze parameters, and keep what they belong to in evaluation mode.

    A glob names modules (all below them is frozen) or single parameters, segment by segment: ``blocks.0``,
    ``blocks.*``, ``**.bias``, ``*`` for everything. Frozen modules stay in evaluation mode whatever ``train()`` says
    afterwards: the running statistics of a frozen batch normalisation do not move, a frozen dropout drops nothing. The
    model can still be copied and pickled; `load_state_dict` is not affected.

    Args:
        module: The model, changed in place.
        globs: What to freeze.

    Returns:
        Names of the frozen parameters, in the model's order.

    Raises:
        InputError: A glob matches nothing; the text names the nearest.
    """
    modules = {path: part for path, part in modules_of(module).items() if path}
    parameters = dict(module.named_parameters(remove_duplicate=False))
    whole: list[nn.Module] = []
    single: set[int] = set()
    for glob in globs:
        parts = [part for path, part in modules.items() if matches(path, glob)]
        named = [parameter for name, parameter in parameters.items() if matches(name, glob)]
        if not parts and not named:
            raise InputError(
                f"freeze: '{glob}' matches no module and no parameter. {nearest(glob, [*modules, *parameters])}"
            )
        whole += parts
        single |= {id(parameter) for parameter in named}
    for part in whole:
        single |= {id(parameter) for parameter in part.parameters()}
    for parameter in parameters.values():
        if id(parameter) in single:
            parameter.requires_grad_(False)
    below = [inner for part in whole for inner in part.modules()]
    for part in [*below, *_all_frozen(module, single)]:
        stay_in_eval(part)
    return [name for name, parameter in parameters.items() if id(parameter) in single]


def stay_in_eval(module: nn.Module) -> None:
    """Put one module in evaluation mode for good."""
    module.training = False
    # On the instance, so that a parent's train() meets it; a partial of a function can be copied and pickled.
    object.__setattr__(module, "train", partial(_remain, module))


def stays_in_eval(module: nn.Module) -> bool:
    """Whether a module was frozen in evaluation mode."""
    own = vars(module).get("train")
    return isinstance(own, partial) and own.func is _remain


def _remain(module: nn.Module, mode: bool = True) -> nn.Module:
    module.training = False
    for child in module.children():
        child.train(mode)
    return module


def _all_frozen(module: nn.Module, frozen: set[int]) -> Iterator[nn.Module]:
    """Innermost modules whose parameters are all frozen: matched by parameter, they are frozen as modules."""
    for part in module.modules():
        own = [id(parameter) for parameter in part.parameters(recurse=False)]
        if own and frozen.issuperset(own) and not any(True for _ in part.children()):
            yield part
