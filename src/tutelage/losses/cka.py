"""Linear centred kernel alignment: how alike two representations of the same samples are (arXiv:1905.00414)."""

from __future__ import annotations

from torch import Tensor

from tutelage.losses._numeric import flat, product


def linear_cka(left: Tensor, right: Tensor) -> Tensor:
    """‖Yᵀ X‖² / (‖Xᵀ X‖ ‖Yᵀ Y‖), of features centred over the batch, in Frobenius norms.

    Invariant to orthogonal maps and to isotropic scaling of either side; widths may differ.

    Args:
        left: ``[batch, ...]``, flattened to vectors.
        right: ``[batch, ...]``.

    Returns:
        Scalar in [0, 1]; 1 for equal features, 0 where a side does not vary.

    Raises:
        ValueError: The batches differ in size, or there is one sample only.

    Source: arXiv:1905.00414, section 3.
    """
    if left.shape[0] != right.shape[0] or left.shape[0] < 2:
        raise ValueError(f"CKA needs the same samples twice, at least 2: got {left.shape[0]} and {right.shape[0]}")
    grams = []
    for side in (left, right):
        centred = flat(side) - flat(side).mean(0)
        grams.append(product(centred, centred.T))
    # ‖YᵀX‖² is the inner product of the two [batch, batch] matrices, whatever the widths.
    norms = grams[0].norm() * grams[1].norm()
    alike: Tensor = (grams[0] * grams[1]).sum() / norms.clamp(min=1e-30)
    return alike
