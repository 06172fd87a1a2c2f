"""Classes that do not exclude each other: one probability for each."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from tutelage.losses._numeric import raised


def binary_cross_entropy(logits: Tensor, target_probabilities: Tensor) -> Tensor:
    """Mean over classes of −y log σ(z) − (1 − y) log(1 − σ(z)).

    Linear in the target, so a mixed target gives the mixed loss.

    Args:
        logits: ``[batch, classes]``: z; no sigmoid was taken of them.
        target_probabilities: ``[batch, classes]`` in [0, 1]: y; rows need not sum to 1.

    Returns:
        ``[batch]``, at least 0, least at z = logit(y).

    Raises:
        ValueError: The shapes differ.

    Source: arXiv:2308.11957, section 2.
    """
    if logits.shape != target_probabilities.shape:
        raise ValueError(
            f"logits are {list(logits.shape)} and target probabilities {list(target_probabilities.shape)}; both must "
            "have one shape"
        )
    each = binary_cross_entropy_with_logits(raised(logits), raised(target_probabilities), reduction="none")
    return each.mean(-1)
