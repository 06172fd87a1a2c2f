"""A frozen language model that reads each text once: its hidden states are kept, and its logits made from them."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.data.batch import Batch
from tutelage.data.splits import Examples
from tutelage.data.tokens import TokenBatch
from tutelage.models.outputs import Outputs
from tutelage.models.participant import Participant
from tutelage.models.remembered import Remembered
from tutelage.models.token_outputs import TokenOutputs

_TEXTS = 16


class RememberedStates(Remembered):
    """What a frozen language model makes of every text of a split, looked up by the text's identity.

    Hidden states are kept at the positions that score something: a few kilobytes a token, where its logits would be
    hundreds. Logits from them are those of the model, to the bit.

    Args:
        participant: The frozen participant, without taps.
        examples: The split.
        device: Where the model is, and where the states are kept.
    """

    def __init__(self, participant: Participant, examples: Examples, device: torch.device) -> None:
        self.participant = participant
        self.name, self.module = participant.name, participant.module
        lengths = torch.as_tensor([int(n) for n in examples.lengths])  # type: ignore[attr-defined]
        # Texts of one length together: nothing is spent on filling up.
        order = lengths.argsort(stable=True)
        kept: list[Tensor] = []
        self._head: tuple[Tensor, Tensor | None] | None = None
        ids: list[Tensor] = []
        sizes: list[Tensor] = []
        with torch.no_grad():
            for start in range(0, len(order), _TEXTS):
                batch = examples.fetch(order[start : start + _TEXTS]).to(device)
                assert isinstance(batch, TokenBatch)
                outputs = participant(batch)
                assert isinstance(outputs, TokenOutputs)
                scores = batch.mask[:, 1:]
                self._head = outputs.weight, outputs.bias
                kept.append(outputs.hidden[:, :-1][scores])
                ids.append(batch.ids)
                sizes.append(scores.sum(1))
        self._states = torch.cat(kept)
        every, size = torch.cat(ids), torch.cat(sizes)
        self._rows = torch.full((int(every.max()) + 1,), -1, dtype=torch.int64, device=device)
        self._rows[every] = torch.arange(len(every), device=device)
        self._sizes, self._ends = size, size.cumsum(0)

    def __call__(self, batch: Batch) -> Outputs:
        """Outputs for texts of the split; states of positions that score nothing are zero.

        Raises:
            KeyError: A text is not of the split, or is not as it was.
        """
        assert isinstance(batch, TokenBatch)
        rows = self._rows[batch.ids.clamp(max=len(self._rows) - 1)]
        unknown = (rows < 0) | (batch.ids >= len(self._rows))
        if bool(unknown.any()):
            raise KeyError(f"the {self.name} remembers no text {int(batch.ids[unknown][0])}")
        scores = batch.mask[:, 1:]
        if not torch.equal(scores.sum(1), self._sizes[rows]):
            raise KeyError(f"the {self.name} remembers texts as the data has them, and these were written anew")
        hidden = self._states.new_zeros(*batch.inputs.shape, self._states.shape[-1])
        first = self._ends[rows] - self._sizes[rows]
        within = (scores.cumsum(1) - 1)[scores]
        sample = scores.nonzero(as_tuple=True)[0]
        hidden[:, :-1][scores] = self._states[first[sample] + within]
        assert self._head is not None
        return TokenOutputs(hidden, *self._head)

    def close(self) -> None:
        """Take the taps off the model and forget everything."""
        self.participant.close()
        self._states = self._states.new_zeros(0, self._states.shape[-1])
