"""A frozen model that answers each sample once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.data.batch import Batch
from tutelage.data.splits import Examples, passing
from tutelage.models.outputs import Outputs
from tutelage.models.participant import Participant

_CHUNK = 512


@dataclass(frozen=True)
class Seen:
    """What a frozen participant makes of every sample of a split, in the split's own order.

    Args:
        outputs: Logits and captures, ``[count, ...]``.
        labels: ``[count]`` int64.
        ids: ``[count]`` int64.
    """

    outputs: Outputs
    labels: Tensor
    ids: Tensor


def see(participant: Participant, examples: Examples, device: torch.device) -> Seen:
    """Run a frozen participant over a split once, unaugmented; the order makes it the same to the bit each time.

    Args:
        participant: The frozen participant.
        examples: The split.
        device: Where the model is, and where the result is kept.
    """
    kept: dict[str, list[Tensor]] = {}
    labels, ids = [], []
    with torch.no_grad():
        for part in passing(examples, _CHUNK):
            batch = part.to(device)
            outputs = participant(batch)
            for key, value in {"logits": outputs.logits, **outputs.taps}.items():
                kept.setdefault(key, []).append(value.detach())
            labels.append(batch.labels)
            ids.append(batch.ids)
    found = {key: torch.cat(parts) for key, parts in kept.items()}
    return Seen(Outputs(found.pop("logits"), found), torch.cat(labels), torch.cat(ids))


class Remembered:
    """What a frozen participant makes of each sample of a split, looked up by the sample's identity.

    The model runs over the split once, in the split's own order, so that a resumed run remembers the same numbers to
    the bit. Outputs are kept in memory, on the model's device. They are those of unaugmented samples: this only fits
    data whose views do not change.

    Args:
        participant: The frozen participant.
        examples: The split.
        device: Where the model is.
    """

    trainable = False

    def __init__(self, participant: Participant, examples: Examples, device: torch.device) -> None:
        self.participant = participant
        self.name, self.module = participant.name, participant.module
        seen = see(participant, examples, device)
        every = seen.ids
        self._kept = {"logits": seen.outputs.logits, **seen.outputs.taps}
        self._rows = torch.full((int(every.max()) + 1,), -1, dtype=torch.int64, device=device)
        self._rows[every] = torch.arange(len(every), device=device)

    def __call__(self, batch: Batch) -> Outputs:
        """Outputs for a batch of the split's samples.

        Raises:
            KeyError: A sample is not of the split.
        """
        rows = self._rows[batch.ids]
        if bool((rows < 0).any()):
            raise KeyError(f"the {self.name} remembers no sample {int(batch.ids[rows < 0][0])}")
        found = {key: kept.index_select(0, rows) for key, kept in self._kept.items()}
        return Outputs(found.pop("logits"), found)

    def mode(self, train: bool) -> None:
        """Nothing changes: it is frozen."""
        self.participant.mode(train)

    def close(self) -> None:
        """Take the taps off the model and forget everything."""
        self.participant.close()
        self._kept = {}

    @property
    def parameters_total(self) -> int:
        """Parameters of the model."""
        return self.participant.parameters_total
