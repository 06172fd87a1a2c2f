"""Whether a model looks where the answer is: input gradients against known heat maps and the images' edges."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, cosine_similarity, cross_entropy

from tutelage.models.inert import evaluating

_BANDS = (-0.6, -0.2, 0.2, 0.6)


def input_gradients(module: nn.Module, inputs: Tensor, labels: Tensor, *, batch_size: int = 256) -> Tensor:
    """The gradient of each sample's cross-entropy, negated, with respect to its pixels, in evaluation mode.

    Args:
        module: The model; its parameters get no gradient.
        inputs: ``[n, channels, height, width]``, on the model's device.
        labels: ``[n]`` int64.
        batch_size: Samples of one pass.

    Returns:
        ``[n, height, width]``: the sum over channels, positive where more of a pixel makes the label more probable.
    """
    parts = []
    with evaluating(module), torch.enable_grad():
        for some, of in zip(inputs.split(batch_size), labels.split(batch_size), strict=True):
            asked = some.detach().requires_grad_()
            loss = cross_entropy(module(asked).float(), of, reduction="sum")
            parts.append(-torch.autograd.grad(loss, asked)[0].sum(1))
    return torch.cat(parts)


def band_scores(saliency: Tensor, heat: Tensor) -> dict[str, float]:
    """Five bands of saliency against a heat map that is known (arXiv:2009.02899).

    Each image's saliency is divided by its largest magnitude and cut into strongly and weakly negative, background,
    location (above 0.2) and distinguishing (above 0.6); the truth has the last three.

    Args:
        saliency: ``[n, height, width]``.
        heat: ``[n, height, width]`` in [0, 1].

    Returns:
        ``band_accuracy``, the share of pixels in the right band; ``precision``, ``recall`` and ``false_positives`` of
        what is above background, over all pixels of all images.

    Raises:
        ValueError: The shapes differ.
    """
    if saliency.shape != heat.shape or heat.ndim != 3:
        shapes = f"{list(saliency.shape)} and {list(heat.shape)}"
        raise ValueError(f"expected saliency and heat of one shape [n, height, width], got {shapes}")
    scaled = saliency / saliency.abs().flatten(1).amax(1).clamp(min=1e-30)[:, None, None]
    edges = torch.tensor(_BANDS, device=saliency.device)
    ours, truth = torch.bucketize(scaled.contiguous(), edges), torch.bucketize(heat.to(scaled).contiguous(), edges)
    on, real = ours > 2, truth > 2
    right = float((on & real).sum())
    return {
        "band_accuracy": float((ours == truth).double().mean()),
        "precision": right / max(1.0, float(on.sum())),
        "recall": right / max(1.0, float(real.sum())),
        "false_positives": float((on & ~real).sum()) / max(1.0, float((~real).sum())),
    }


def edge_alignment(saliency: Tensor, inputs: Tensor) -> float:
    """Mean cosine between the magnitude of saliency and that of the image's edges (Sobel), in [0, 1].

    Args:
        saliency: ``[n, height, width]``.
        inputs: ``[n, channels, height, width]``.
    """
    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=inputs.device)
    grey = inputs.float().mean(1, keepdim=True)
    # Repeated at the border, or the border itself would be the strongest edge.
    grey = torch.nn.functional.pad(grey, (1, 1, 1, 1), mode="replicate")
    both = conv2d(grey, torch.stack([sobel, sobel.T])[:, None])
    edges = both.square().sum(1).sqrt()
    return float(cosine_similarity(saliency.abs().flatten(1), edges.flatten(1)).mean())


def kept_pixels(inputs: Tensor, saliency: Tensor, share: float, *, largest: bool) -> Tensor:
    """Images in which only the most, or least, salient pixels are left; the others have the image's mean.

    Args:
        inputs: ``[n, channels, height, width]``.
        saliency: ``[n, height, width]``; its magnitude counts.
        share: Share of pixels that are left, in (0, 1].
        largest: The most salient, rather than the least.
    """
    flat = saliency.abs().flatten(1)
    count = max(1, round(share * flat.shape[1]))
    places = flat.topk(count, dim=1, largest=largest).indices
    keep = torch.zeros_like(flat, dtype=torch.bool).scatter_(1, places, True).view(saliency.shape)[:, None]
    return torch.where(keep, inputs, inputs.mean((2, 3), keepdim=True))
