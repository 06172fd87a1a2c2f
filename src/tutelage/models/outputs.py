"""What a model makes of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Outputs:
    """Outputs of one forward pass. A model may return one itself, of a subclass that holds more.

    Args:
        logits: ``[batch, classes]``.
        taps: What was captured, by the name it was asked for: a standard tap (``embedding``: ``[batch, width]``, the
            classifier's input; ``features``: ``[batch, channels, height, width]`` or ``[batch, tokens, width]``, the
            last feature map), or a dotted path inside the model.
    """

    logits: Tensor
    taps: Mapping[str, Tensor] = field(default_factory=dict)

    def with_taps(self, taps: Mapping[str, Tensor]) -> Outputs:
        """The same outputs, and these captures."""
        return replace(self, taps={**self.taps, **taps}) if taps else self

    @property
    def embedding(self) -> Tensor:
        """``[batch, width]``: the classifier's input."""
        return self.taps["embedding"]

    @property
    def features(self) -> Tensor:
        """``[batch, channels, height, width]`` or ``[batch, tokens, width]``: the last feature map."""
        return self.taps["features"]


def first_tensor(value: Any) -> Tensor | None:
    """The first tensor in a nested tuple, list, mapping or dataclass; ``None`` if there is none."""
    if isinstance(value, Tensor):
        return value
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.values()
    elif isinstance(value, tuple | list):
        items = value
    elif is_dataclass(value) and not isinstance(value, type):
        items = [getattr(value, f.name) for f in fields(value)]
    for item in items:
        tensor = first_tensor(item)
        if tensor is not None:
            return tensor
    return None
