"""Maps of what a model looks at, and how far two models' maps are from each other.

Functions that compare give one number a sample. Nothing is detached: cut the teacher's maps off before, and build the
student's under ``create_graph`` where gradients are to reach it through the gradients in the map. float32 or better
inside, also under autocast.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from tutelage.losses._numeric import cosine, flat, product, raised, same_shape, unit


def class_activation_maps(features: Tensor, weight: Tensor) -> Tensor:
    """What each position says for each class: M_k = Σ_c W_kc F_c; its mean over positions is the logit without bias.

    Args:
        features: ``[batch, channels, height, width]``, what the classifier sees the mean of.
        weight: ``[classes, channels]``, the classifier's.

    Returns:
        ``[batch, classes, height, width]``.

    Raises:
        ValueError: The features are no feature maps, or have other channels than the weight.

    Source: arXiv:2304.12777, equation 2.
    """
    _maps(features, "class_activation_maps")
    if weight.dim() != 2 or weight.shape[1] != features.shape[1]:
        raise ValueError(
            f"the weight is {list(weight.shape)} and the features are {list(features.shape)}; expected [classes, "
            f"{features.shape[1]}]"
        )
    told = product(raised(weight), raised(features).flatten(2))
    return told.reshape(*told.shape[:2], *features.shape[2:])


def binary_maps(maps: Tensor) -> Tensor:
    """1 where a map is above the mean of its absolute values, else 0; a threshold for each sample and class.

    Args:
        maps: ``[batch, classes, height, width]``.

    Returns:
        The same shape; it has no gradient.

    Raises:
        ValueError: They are no maps.

    Source: arXiv:2304.12777, section 3.
    """
    _maps(maps, "binary_maps")
    maps = raised(maps.detach())
    return (maps > maps.abs().mean((2, 3), keepdim=True)).to(maps.dtype)


def class_attention(
    student: Tensor,
    teacher: Tensor,
    *,
    resolution: int | tuple[int, int] = 2,
    normalize: bool = True,
    chosen: Tensor | None = None,
) -> Tensor:
    """CAT: mean squared difference of class activation maps, pooled and each brought to length 1.

    Pooling comes first. With one position and no normalisation it is regression of logits without bias; with one
    position and normalisation only signs are left.

    Args:
        student: ``[batch, classes, height, width]``.
        teacher: The same batch and classes; the size may differ.
        resolution: Side of the pooled maps, or their height and width.
        normalize: Divide each pooled map by its length over positions.
        chosen: ``[batch, count]`` int64 classes of each sample that are compared; ``None``: all.

    Returns:
        ``[batch]``: the mean over the compared classes and positions, at least 0.

    Raises:
        ValueError: They are no maps, of different classes, or the resolution is below 1.

    Source: arXiv:2304.12777, equations 3 and 4.
    """
    _maps(student, "class_attention")
    _maps(teacher, "class_attention")
    same_shape(student[:, :, 0, 0], teacher[:, :, 0, 0], "maps by class", ", apart from height and width")
    size = (resolution, resolution) if isinstance(resolution, int) else resolution
    if min(size) < 1:
        raise ValueError(f"resolution must be at least 1, got {resolution}")
    pooled = []
    for maps in (student, teacher):
        one = adaptive_avg_pool2d(raised(maps), size).flatten(2)
        if chosen is not None:
            one = one.gather(1, chosen[:, :, None].expand(-1, -1, one.shape[2]))
        pooled.append(unit(one) if normalize else one)
    return (pooled[0] - pooled[1]).square().mean((1, 2))


def grad_cam(features: Tensor, gradients: Tensor, *, signed: bool = False) -> Tensor:
    """Grad-CAM: feature maps summed with weights that are the gradient's means over positions.

    Args:
        features: ``[batch, channels, height, width]``.
        gradients: The same shape: of the logit that is explained, with respect to the features.
        signed: Keep what speaks against the class, which is otherwise set to 0.

    Returns:
        ``[batch, 1, height, width]``.

    Raises:
        ValueError: The features are no feature maps, or the shapes differ.

    Source: arXiv:1610.02391, equations 1 and 2.
    """
    _maps(features, "grad_cam")
    if features.shape != gradients.shape:
        raise ValueError(
            f"the features are {list(features.shape)} and their gradients {list(gradients.shape)}; both must have one "
            "shape"
        )
    weights = raised(gradients).mean((2, 3), keepdim=True)
    seen = (weights * raised(features)).sum(1, keepdim=True)
    return seen if signed else torch.relu(seen)


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps brought to a height and width, bilinearly; maps of that size are returned as they are.

    Args:
        maps: ``[batch, channels, height, width]``.
        size: Height and width.

    Raises:
        ValueError: They are no maps.
    """
    _maps(maps, "resized")
    height, width = size
    if tuple(maps.shape[2:]) == (height, width):
        return maps
    return interpolate(raised(maps), (height, width), mode="bilinear", align_corners=False)


def explanation_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """1 − cosine of two explanations, each flattened to one vector a sample: scale does not count, sign does.

    Args:
        student: ``[batch, ...]``.
        teacher: ``[batch, ...]`` of the same shape.

    Returns:
        ``[batch]``, in [0, 2]; 1 without a gradient where either is zero throughout.

    Raises:
        ValueError: The shapes differ.

    Source: arXiv:2402.03119, equation 2.
    """
    same_shape(student, teacher, "explanations", "; resize one of them first")
    return 1 - cosine(flat(student), flat(teacher))


def _maps(maps: Tensor, what: str) -> None:
    if maps.dim() != 4:
        raise ValueError(f"{what} needs [batch, channels, height, width], got {list(maps.shape)}")
