"""Rotated images: one domain for each angle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Lt, MinLen

from tutelage.data.dividing import by_class
from tutelage.data.domains import Domains, held_out
from tutelage.data.pool import Pool
from tutelage.data.splits import Splits
from tutelage.data.warping import warped
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component
from tutelage.recipe.types import Of


@component("data", "domains")
@dataclass(frozen=True, kw_only=True)
class Rotated(Pool):
    """Images of any data set as several domains, one for each angle that they are turned by (arXiv:1508.07680).

    All parts of the data set are put together again; each class is spread evenly over the domains and each image
    belongs to one of them, so that no domain shows the content of another.

    Args:
        of: The images.
        angles: Degrees that the images of each domain are turned by, counter-clockwise.
        hold_out: Domains that only testing sees, by place (from 0) or by angle as a text; ``null`` to test on a
            fraction of all.
        test_fraction: Fraction of each class of each domain kept for testing, where no domain is held out.
        validation_fraction: Fraction of each class of each domain that is trained on, kept for validation.
    """

    of: Annotated[Any, Of("data")] = "digits"
    angles: Annotated[tuple[float, ...], MinLen(2)] = (0.0, 20.0, 40.0, 60.0)
    hold_out: list[int | str] | int | str | None = None
    validation_fraction: Annotated[float, Ge(0), Lt(1)] = 0.2

    def load(self, seed: int) -> Splits:
        """Load the images, turn them and divide them.

        Args:
            seed: The run's seed, for the images, and for the division where ``split_seed`` is ``None``.

        Raises:
            InputError: They are no images, two angles are the same, or there is no such domain to hold out.
        """
        names = tuple(f"{angle:g}" for angle in self.angles)
        if len(set(names)) < len(names):
            raise InputError(f"data.angles {list(self.angles)} has an angle twice")
        whole: Splits = self.of.load(seed)
        if len(whole.info.input_shape) != 3:
            raise InputError(
                f"'domains' turns images [channels, height, width], not inputs of {list(whole.info.input_shape)}"
            )
        parts = [part for part in (whole.train, whole.validation, whole.test) if part is not None]
        batches = [part.fetch(range(len(part))) for part in parts]
        ids = torch.cat([batch.ids for batch in batches])
        order = ids.argsort()
        images = torch.cat([batch.inputs for batch in batches])[order]
        labels = torch.cat([batch.labels for batch in batches])[order]
        place = torch.empty_like(labels)
        for members in by_class(labels, self.seed_of_split(seed)):
            place[members] = torch.arange(len(members)) % len(names)
        turned = torch.cat(
            [warped(images[at], torch.tensor(self.angles)[place[at]]) for at in torch.arange(len(images)).split(4096)]
        )
        return self.divide(
            turned,
            labels,
            names=whole.info.class_names,
            seed=seed,
            about={"data": "domains", "of": whole.info.fingerprint, "angles": list(self.angles)},
            warnings=whole.warnings,
            domains=Domains(names, place, held_out(names, self.hold_out)),
        )
