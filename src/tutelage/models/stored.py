"""A frozen model whose answers were written down beforehand."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.data.batch import Batch
from tutelage.data.seeds import integers, mix, uniform
from tutelage.data.store import Store
from tutelage.losses import Fill, Scale, complete
from tutelage.models.outputs import Outputs
from tutelage.models.participant import Participant

# Far from the salts that augmentations use, which count from 0.
_NOISE, _VIEW = 0x46494C4C, 0x56494557


class Stored:
    """What a frozen participant made of each view of a split, looked up by the sample's identity and the view's seed.

    The model is not run. A seed says which view it is of, so that samples which are not as the store saw them are
    refused, whoever made the batch.

    Args:
        participant: The frozen participant, without taps: only logits are kept.
        store: What it made of each view.
        fill: What stands for classes that were not kept, see `tutelage.losses.complete`.
        scale: On which scale.
        consistent: Look up the view that the batch shows. False: any view of the sample, drawn by the batch's seed.
    """

    trainable = False

    def __init__(
        self, participant: Participant, store: Store, *, fill: Fill = "tail", scale: Scale, consistent: bool = True
    ) -> None:
        self.participant, self.store = participant, store
        self.name, self.module = participant.name, participant.module
        self.fill, self.scale, self.consistent = fill, scale, consistent
        self._latest = 0

    def __call__(self, batch: Batch) -> Outputs:
        """Outputs for a batch of the split's samples, as of one of the stored views.

        Raises:
            KeyError: A sample is not of the split, or its view is not stored.
        """
        ids, seeds = batch.ids.cpu(), batch.seeds.cpu()
        if not self.consistent:
            return Outputs(self._logits(integers(seeds, 0, self.store.views, _VIEW), ids, seeds).to(batch.ids.device))
        # Nearly always the view of the last batch, or the one after it.
        for view in range(self._latest, self._latest + self.store.views):
            at = view % self.store.views
            if torch.equal(mix(self.store.seed, at, ids), seeds):
                self._latest = at
                return Outputs(self._complete(self.store.read(at, ids), seeds).to(batch.ids.device))
        return Outputs(self._logits(self._views(ids, seeds), ids, seeds).to(batch.ids.device))

    def _views(self, ids: Tensor, seeds: Tensor) -> Tensor:
        """``[batch]``: the view of each sample, where they are of several."""
        views = torch.full_like(ids, -1)
        for view in range(self.store.views):
            views[mix(self.store.seed, view, ids) == seeds] = view
        if bool((views < 0).any()):
            sample = int(ids[views < 0][0])
            raise KeyError(f"the {self.name} stored no such view of sample {sample}")
        return views

    def _logits(self, views: Tensor, ids: Tensor, seeds: Tensor) -> Tensor:
        logits = torch.empty(len(ids), self.store.layout.classes)
        for view in views.unique().tolist():
            mine = views == view
            logits[mine] = self._complete(self.store.read(view, ids[mine]), seeds[mine])
        return logits

    def _complete(self, kept: dict[str, Tensor], seeds: Tensor) -> Tensor:
        layout = self.store.layout
        if layout.dense:
            return kept["values"]
        noise = uniform(seeds, _NOISE, (layout.classes,)) if self.fill == "random" else None
        return complete(
            kept["values"],
            kept["indices"],
            layout.classes,
            tail=kept["tail"],
            fill=self.fill,
            scale=self.scale,
            noise=noise,
        )

    def mode(self, train: bool) -> None:
        """Nothing changes: it is frozen."""
        self.participant.mode(train)

    def close(self) -> None:
        """Take the taps off the model."""
        self.participant.close()

    @property
    def parameters_total(self) -> int:
        """Parameters of the model."""
        return self.participant.parameters_total
