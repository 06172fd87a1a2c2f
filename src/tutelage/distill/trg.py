"""TRG: token-level relationship graphs (arXiv:2306.12442)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from tutelage.data.batch import Batch
from tutelage.data.splits import labels_of
from tutelage.distill.base import LogitDistillation
from tutelage.distill.parts.features import as_map, as_tokens, captured, map_grid, same_positions
from tutelage.engine.method import Room
from tutelage.engine.predicting import predict
from tutelage.engine.ramps import Linear
from tutelage.engine.run import Run
from tutelage.engine.terms import Losses
from tutelage.losses import context_distance, graph_divergence, kl_divergence, token_contrast
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import method
from tutelage.recipe.types import Ramped

_SHOTS = (("few, below 20", 0, 20), ("medium, 20 to 100", 20, 101), ("many, above 100", 101, None))


@method("trg", paper="arXiv:2306.12442", route="distill")
class TRG(LogitDistillation):
    """Match how patches relate: across images, as neighbours and as partners; within one, as they attend to each other.

    Tokens are a transformer's patches (not its class token), or cells of a feature map; of two grids the larger is
    averaged down to the smaller. Where steps are accumulated or spread over processes, relations are those inside a
    part, so larger batches show more. Constants without a published value are our choice: scale each so that its
    weighted term starts at 0.1 to 1 times the label term.

    Args:
        inner_weight: Weight of the similarities of an image's own tokens.
        local_weight: Weight of the neighbour graphs' divergence.
        global_weight: Weight of finding one's own teacher token among all.
        logit_weight: Weight of the divergence of the outputs.
        temperature: Of the outputs.
        task_weight: Weight of the label term.
        sample: Tokens of a batch in the graphs, an equal number of each image, drawn anew every step.
        k: Neighbours of a token.
        sigma: Width of the edges, on tokens divided by √width; null for each side's mean squared distance to
            neighbours.
        tau: Temperature of the search for one's own token, at the beginning and at the end.
        kl_direction: ``forward`` has the teacher's graph first, ``reverse`` the student's.
        feature: Tap of a late layer: ``[tokens, width]`` or ``[channels, height, width]``.
        cell: Side of the square of a feature map's positions that is averaged to a token.
    """

    def __init__(
        self,
        *,
        inner_weight: Annotated[float, Ge(0), Ramped()] = 10.0,
        local_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        global_weight: Annotated[float, Ge(0), Ramped()] = 0.5,
        logit_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        temperature: Annotated[float, Gt(0), Ramped()] = 4.0,
        task_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        sample: Annotated[int, Ge(2)] = 256,
        k: Annotated[int, Ge(1)] = 8,
        sigma: Annotated[float, Gt(0)] | None = None,
        tau: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = (0.5, 0.1),
        kl_direction: Literal["forward", "reverse"] = "forward",
        feature: str = "features",
        cell: Annotated[int, Ge(1)] = 1,
    ) -> None:
        super().__init__()
        self.inner_weight, self.local_weight, self.global_weight = inner_weight, local_weight, global_weight
        self.logit_weight, self.temperature, self.task_weight = logit_weight, temperature, task_weight
        self.sample, self.k, self.sigma, self.kl_direction = sample, k, sigma, kl_direction
        # Coarse structure first, hard negatives later; the engine puts the present value in its place.
        self.tau: Any = Linear(start=tau[0], end=tau[1])
        self.feature, self.cell = feature, cell
        self.grids: dict[str, tuple[int, int] | None] = {}

    def setup(self, room: Room) -> None:
        """Tap both models, find where tokens lie, and build the projection to the teacher's width.

        Raises:
            InputError: The tap has no positions, or cells are larger than the map.
        """
        super().setup(room)
        shown = {name: captured(room, name, self.feature) for name in ("teacher", "student")}
        self.grids = {name: map_grid(room, name, one, "method.feature") for name, one in shown.items()}
        for name, one in shown.items():
            size = as_map(one, self.grids[name]).shape[2:]
            if self.cell > min(size):
                raise InputError(f"method.cell: {self.cell} is more than the {name}'s {size[0]}x{size[1]} positions")
        ours, theirs = (as_map(shown[name], self.grids[name]).shape[1] for name in ("student", "teacher"))
        self.projection = nn.Linear(ours, theirs)

    def tokens(self, student: Outputs, teacher: Outputs) -> tuple[Tensor, Tensor]:
        """``[batch, tokens, width]`` of student and teacher, of the same places; the teacher's are detached."""
        maps = []
        for name, outputs in (("student", student), ("teacher", teacher)):
            one = as_map(outputs.taps[self.feature], self.grids[name])
            maps.append(avg_pool2d(one, self.cell) if self.cell > 1 else one)
        ours, theirs = same_positions(*maps)
        return as_tokens(ours), as_tokens(theirs).detach()

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``task * CE + logit * T² KL + inner * context + local * graphs + global * contrast``."""
        ours, theirs = self.tokens(student, teacher)
        terms = Losses(inner=context_distance(ours, theirs), **self._across(ours, theirs))
        weights = {"inner": self.inner_weight, "local": self.local_weight, "global": self.global_weight}
        terms = terms.weighted(**{name: weights[name] for name in terms})
        if self.logit_weight:
            outputs = Losses(transfer=kl_divergence(student.logits, teacher.logits, temperature=self.temperature))
            terms = outputs.weighted(transfer=self.logit_weight) | terms
        if self.task_weight:
            terms = self.task(student, batch).weighted(task=self.task_weight) | terms
        return terms

    def _across(self, ours: Tensor, theirs: Tensor) -> dict[str, Tensor]:
        """The terms between images, on the same drawn tokens of both sides."""
        images, places = ours.shape[:2]
        drawn = max(min(self.sample // images, places), 1)
        chosen = torch.rand(images, places, device=ours.device).argsort(1)[:, :drawn, None]
        mine, target = (one.gather(1, chosen.expand(-1, -1, one.shape[2])).flatten(0, 1) for one in (ours, theirs))
        count = len(mine)
        if count < 2:
            return {}
        # Without it, distances grow with the width and a fixed sigma lets all edges vanish.
        scaled = [one / one.shape[1] ** 0.5 for one in (mine, target)]
        neighbours = min(self.k, count - 1)
        local = graph_divergence(*scaled, neighbours=neighbours, sigma=self.sigma, direction=self.kl_direction)
        found = token_contrast(self.projection(mine), target, temperature=self.tau)
        return {"local": local.mean(), "global": found.mean()}

    def findings(self, run: Run) -> Mapping[str, Any]:
        """Accuracy on the test split of classes that training saw often and rarely: where a long tail would show."""
        seen = labels_of(run.splits.train).bincount(minlength=run.splits.info.classes)
        right: dict[str, Tensor] = {}
        for name in ("student", "teacher"):
            model = run.models[name]
            found = predict(partial(self.predict, model), (model,), run.splits.test, run.accelerator.device)
            right[name] = found.logits.argmax(-1) == found.labels
            labels = found.labels
        table = []
        for group, low, high in _SHOTS:
            chosen = (seen >= low) & (seen < (high or float("inf")))
            here = chosen[labels]
            if here.any():
                scores = {name: float(one[here].float().mean()) for name, one in right.items()}
                counts = {"classes": int(chosen.sum()), "samples": int(here.sum())}
                table.append({"images a class": group, **counts, **scores})
        return {"accuracy by how often a class was seen": table}
