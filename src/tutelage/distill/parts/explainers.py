"""Explanations of a class by gradients: what `e2kd` compares, each a component that a recipe names."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tutelage.distill.parts.features import as_map, captured, map_grid
from tutelage.engine.method import Room
from tutelage.losses import grad_cam
from tutelage.models.bcos import explaining
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component


class Explainer:
    """Says which parts of an input speak for a class; a recipe names your own as ``package.module:Name``."""

    def setup(self, room: Room, name: str) -> None:
        """Place the taps that explaining a model needs; called once a model and stage."""

    def explain(self, name: str, outputs: Outputs, inputs: Tensor, score: Tensor, *, graph: bool) -> Tensor:
        """The maps of a batch.

        Args:
            name: The model's.
            outputs: What it made of the inputs.
            inputs: ``[batch, *input_shape]``, through which gradients can be taken.
            score: The explained logits, summed over the batch.
            graph: Whether the maps are to be differentiated in turn.

        Returns:
            ``[batch, channels, height, width]``; others than feature maps need as many numbers on both sides.
        """
        raise NotImplementedError(f"{type(self).__name__} explains nothing")


def gradient(score: Tensor, of: Tensor, *, graph: bool, where: str) -> Tensor:
    """The gradient of explained logits.

    Raises:
        InputError: They do not depend on it, or their graph was cut.
    """
    # A loss that is only looked at may be computed without gradients around it.
    found: Tensor | None = None
    if score.requires_grad and of.requires_grad:
        found = torch.autograd.grad(score, of, create_graph=graph, retain_graph=True, allow_unused=True)[0]
    if found is None:
        raise InputError(f"{where} cannot be explained: the logits have no gradient with respect to it")
    return found


@component("explainer", "gradcam")
class GradCam(Explainer):
    """Grad-CAM: the last feature maps, weighted by the mean gradient of the class (arXiv:1610.02391).

    Args:
        feature: Tap of the feature maps, or of a transformer's tokens.
        signed: Keep what speaks against the class.
    """

    def __init__(self, *, feature: str = "features", signed: bool = False) -> None:
        self.feature, self.signed = feature, signed
        self.grids: dict[str, tuple[int, int] | None] = {}

    def setup(self, room: Room, name: str) -> None:
        """Tap the feature maps."""
        self.grids[name] = map_grid(room, name, captured(room, name, self.feature), "method.explainer.feature")

    def explain(self, name: str, outputs: Outputs, inputs: Tensor, score: Tensor, *, graph: bool) -> Tensor:
        """``[batch, 1, height, width]`` of the feature maps."""
        seen = outputs.taps[self.feature]
        slope = gradient(score, seen, graph=graph, where=f"the tap '{self.feature}' of the {name}")
        grid = self.grids[name]
        return grad_cam(as_map(seen, grid), as_map(slope, grid), signed=self.signed)


@component("explainer", "input-gradient")
class InputGradient(Explainer):
    """The gradient of the class with respect to the input, for any model.

    Args:
        times_input: Multiply it by the input.
    """

    def __init__(self, *, times_input: bool = False) -> None:
        self.times_input = times_input

    def explain(self, name: str, outputs: Outputs, inputs: Tensor, score: Tensor, *, graph: bool) -> Tensor:
        """Of the input's shape."""
        slope = gradient(score, inputs, graph=graph, where=f"the input of the {name}")
        return slope * inputs.detach() if self.times_input else slope


@component("explainer", "bcos")
class Bcos(Explainer):
    """The effective linear weights of a B-cos network for the class (arXiv:2205.10268).

    Args:
        at: Tap of the encoded input, colours beside their complements.
    """

    def __init__(self, *, at: str = "encode") -> None:
        self.at = at
        self.networks: dict[str, nn.Module] = {}

    def setup(self, room: Room, name: str) -> None:
        """Tap the encoded input.

        Raises:
            InputError: The model is no B-cos network.
        """
        captured(room, name, self.at)
        self.networks[name] = room.modules[name]
        with explaining(room.modules[name]):
            pass

    def explain(self, name: str, outputs: Outputs, inputs: Tensor, score: Tensor, *, graph: bool) -> Tensor:
        """``[batch, 2 * channels, height, width]``."""
        with explaining(self.networks[name]):
            return gradient(score, outputs.taps[self.at], graph=graph, where=f"the tap '{self.at}' of the {name}")
