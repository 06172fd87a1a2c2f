"""Putting an adapter into a model, and merging it: torch's own parametrisations do the rest."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn.utils import parametrize

from tutelage.models.paths import matches, modules_of
from tutelage.recipe.errors import InputError, nearest

_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d)


class Adapter:
    """Says what is trained of a model: subclasses parametrise its weights.

    Args:
        layers: Patterns of the layers that are adapted.
    """

    def __init__(self, layers: Sequence[str] = ("**",)) -> None:
        self.layers = tuple(layers)

    def parametrization(self, layer: nn.Module) -> nn.Module:
        """From a layer's weight to the one that it computes with; equal to it at first."""
        raise NotImplementedError(f"{type(self).__name__} adapts nothing")

    def inject(self, module: nn.Module) -> list[str]:
        """Freeze a model but for the adapter, whose output is unchanged at first.

        Args:
            module: The model, changed in place.

        Returns:
            Names of the adapted layers.

        Raises:
            InputError: A pattern matches no layer with a weight.
        """
        layers = {path: part for path, part in modules_of(module).items() if isinstance(part, _WEIGHTED)}
        for pattern in self.layers:
            if not any(matches(path, pattern) for path in layers):
                raise InputError(f"adapter: '{pattern}' matches no layer with a weight. {nearest(pattern, layers)}")
        module.requires_grad_(False)
        chosen = [path for path in layers if any(matches(path, pattern) for pattern in self.layers)]
        for path in chosen:
            parametrize.register_parametrization(layers[path], "weight", self.parametrization(layers[path]))
        return chosen


def merge(module: nn.Module) -> nn.Module:
    """Put what adapters learnt into the weights themselves, in place, under their first names."""
    for part in list(module.modules()):
        if parametrize.is_parametrized(part):
            # A copy shares the class that torch made for the layer, and taking the parametrisation out changes it.
            own = type(part)
            part.__class__ = type(own.__name__, own.__bases__, dict(vars(own)))
            for name in list(part.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(part, name, leave_parametrized=True)
    return module


def adapted(module: nn.Module) -> bool:
    """Whether a model has an adapter that is not merged."""
    return any(parametrize.is_parametrized(part) for part in module.modules())
