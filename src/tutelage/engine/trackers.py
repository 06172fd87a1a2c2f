"""Trackers: where numbers are sent besides the run folder, through Accelerate."""

from __future__ import annotations

from typing import Any

from tutelage.recipe.registry import component


class Tracker:
    """A tracker that Accelerate knows by name."""

    name: str

    def options(self) -> dict[str, Any]:
        """What Accelerate passes on when it opens the tracker."""
        return {}


@component("tracker", "tensorboard")
class TensorBoard(Tracker):
    """TensorBoard event files in the run folder."""

    name = "tensorboard"


@component("tracker", "mlflow")
class MLflow(Tracker):
    """MLflow, at the tracking server that its environment variables name.

    Args:
        experiment: Name of the experiment; empty for the recipe's name.
    """

    name = "mlflow"

    def __init__(self, *, experiment: str = "") -> None:
        self.experiment = experiment

    def options(self) -> dict[str, Any]:
        """The experiment's name."""
        return {"experiment_name": self.experiment} if self.experiment else {}


@component("tracker", "wandb")
class WeightsAndBiases(Tracker):
    """Weights & Biases, with the account that its environment variables name.

    Args:
        entity: Team or user; empty for the account's own.
    """

    name = "wandb"

    def __init__(self, *, entity: str = "") -> None:
        self.entity = entity

    def options(self) -> dict[str, Any]:
        """The entity."""
        return {"entity": self.entity} if self.entity else {}
