"""Classes divided along a teacher's embeddings, and which part of each class a sample is in (arXiv:2409.20449)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tutelage.losses import principal_directions, subclass_scores
from tutelage.recipe.errors import InputError

Clustering = Literal["kmeans", "agglomerative", "tsne", "oracle"]


@dataclass(frozen=True)
class Knowledge:
    """What a division is made from: a teacher's view of the training samples.

    Args:
        embeddings: ``[samples, width]``.
        groups: ``[samples]`` int64: the class that each sample counts for.
        ids: ``[samples]`` int64: identities of the samples.
        fine: ``[samples]`` int64: true labels of subclasses, where they are known.
    """

    embeddings: Tensor
    groups: Tensor
    ids: Tensor
    fine: Tensor | None = None


class Division(nn.Module):
    """Classes in subclasses; what was learnt of the training samples is kept in buffers.

    Args:
        classes: Number of classes.
        width: Width of the teacher's embedding.
        count: Subclasses a class, at most.
    """

    present: Tensor
    projection: Tensor

    def __init__(self, classes: int, width: int, count: int) -> None:
        super().__init__()
        self.classes, self.width, self.count = classes, width, count
        # Until more is known, every class is its own only subclass.
        self.register_buffer("present", (torch.arange(count) == 0).expand(classes, count).clone())
        self.register_buffer("projection", torch.eye(width))

    def learn(self, known: Knowledge, projection: Tensor | None, seed: int) -> None:
        """Divide every class.

        Args:
            known: The training samples.
            projection: ``[width, width]``: what of an embedding is looked at; ``None`` for all.
            seed: Of what is drawn.

        Raises:
            InputError: The classes cannot be divided in this way.
        """
        embeddings = known.embeddings.double().cpu()
        if projection is not None:
            self.projection.copy_(projection)
            embeddings = embeddings @ projection.double().cpu()
        self.present.zero_()
        groups = known.groups.cpu()
        for group in range(self.classes):
            own = groups == group
            found = self._divide(group, embeddings[own], known, own.nonzero().squeeze(1), seed) if own.any() else 1
            self.present[group, :found] = True

    def _divide(self, group: int, embeddings: Tensor, known: Knowledge, rows: Tensor, seed: int) -> int:
        raise NotImplementedError

    def shares(self, embeddings: Tensor, ids: Tensor, beta: float) -> Tensor:
        """``[batch, classes, subclasses]``: how much of each class's subclasses is in a sample; sums to 1 a class.

        Args:
            embeddings: ``[batch, width]``.
            ids: ``[batch]`` int64.
            beta: Temperature of the shares, where they are soft.
        """
        raise NotImplementedError


class Directions(Division):
    """Subclasses are the main directions of a class, and a sample is in all of them by how far it lies along each.

    Args:
        classes: Number of classes.
        width: Width of the teacher's embedding.
        count: Subclasses a class, at most.
        rotate: Rotate the directions at random, so that all vary about equally.
    """

    means: Tensor
    axes: Tensor
    scales: Tensor

    def __init__(self, classes: int, width: int, count: int, *, rotate: bool = True) -> None:
        super().__init__(classes, width, count)
        self.rotate = rotate
        self.register_buffer("means", torch.zeros(classes, width))
        self.register_buffer("axes", torch.zeros(classes, width, count))
        self.register_buffer("scales", torch.ones(classes))

    def _divide(self, group: int, embeddings: Tensor, known: Knowledge, rows: Tensor, seed: int) -> int:
        mean, axes = principal_directions(embeddings, self.count)
        if self.rotate and axes.shape[1]:
            axes = axes @ rotation(axes.shape[1], seed)
        self.means[group] = mean
        self.axes[group, :, : axes.shape[1]] = axes
        if axes.shape[1]:
            self.scales[group] = ((embeddings - mean) @ axes).square().mean().sqrt()
        return max(axes.shape[1], 1)

    def shares(self, embeddings: Tensor, ids: Tensor, beta: float) -> Tensor:
        """A softmax over the scores of each class."""
        scores = subclass_scores(embeddings.float() @ self.projection, self.means, self.axes, self.scales)
        return (scores / beta).masked_fill(~self.present, float("-inf")).softmax(-1)


class Clusters(Division):
    """Subclasses are groups of a class's samples; a sample is in one of each class.

    In its own class, a training sample is in the group that it was put into; in another, or a sample that was not
    seen, in the one whose mean is nearest.

    Args:
        classes: Number of classes.
        width: Width of the teacher's embedding.
        count: Subclasses a class, at most.
        by: How the groups are found.
        size: One more than the largest identity among the training samples.
    """

    centres: Tensor
    owner: Tensor
    member: Tensor

    def __init__(self, classes: int, width: int, count: int, *, by: Clustering, size: int) -> None:
        super().__init__(classes, width, count)
        self.by = by
        self.register_buffer("centres", torch.zeros(classes, count, width))
        self.register_buffer("owner", torch.full((size,), -1))
        self.register_buffer("member", torch.zeros(size, dtype=torch.int64))

    def _divide(self, group: int, embeddings: Tensor, known: Knowledge, rows: Tensor, seed: int) -> int:
        if self.by == "oracle":
            if known.fine is None:
                raise InputError(
                    "method.split: 'oracle' needs data whose classes have known subclasses, such as 'merged'"
                )
            labels = known.fine.cpu()[rows].unique(return_inverse=True)[1]
        else:
            labels = clustered(embeddings, self.count, self.by, seed)
        found = int(labels.max()) + 1
        if found > self.count:
            raise InputError(f"method.subclasses: {self.count} are fewer than the {found} true ones of a class")
        for place in range(found):
            self.centres[group, place] = embeddings[labels == place].mean(0)
        at = known.ids.cpu()[rows]
        self.owner[at], self.member[at] = group, labels
        return found

    def shares(self, embeddings: Tensor, ids: Tensor, beta: float) -> Tensor:
        """One subclass of each class, whole."""
        projected = embeddings.float() @ self.projection
        away = torch.cdist(projected.expand(self.classes, -1, -1), self.centres).transpose(0, 1)
        nearest = away.masked_fill(~self.present, float("inf")).argmin(-1)
        known = ids < len(self.owner)
        at = torch.where(known, ids, 0)
        if len(self.owner):
            own = known[:, None] & (self.owner[at][:, None] == torch.arange(self.classes, device=ids.device))
            nearest = torch.where(own, self.member[at][:, None], nearest)
        return nn.functional.one_hot(nearest, self.count).float()


def rotation(count: int, seed: int) -> Tensor:
    """``[count, count]`` random orthonormal in double precision: the same for the same seed."""
    drawn = torch.randn(count, count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    orthonormal: Tensor = torch.linalg.qr(drawn).Q
    return orthonormal


def clustered(embeddings: Tensor, count: int, by: Clustering, seed: int) -> Tensor:
    """``[samples]`` int64: the cluster of each sample, numbered from the largest on.

    Args:
        embeddings: ``[samples, width]``.
        count: How many clusters; fewer where there are not as many different samples.
        by: ``kmeans``, ``agglomerative``, or ``tsne`` for k-means on a map of two dimensions.
        seed: Of what is drawn.
    """
    from sklearn.cluster import AgglomerativeClustering, KMeans
    from sklearn.manifold import TSNE

    count = min(count, len(embeddings.unique(dim=0)))
    if count == 1:
        return torch.zeros(len(embeddings), dtype=torch.int64)
    points: Any = embeddings.numpy()
    state = seed % 2**32
    if by == "tsne":
        # Its default of 30 neighbours needs more samples than a small class has.
        points = TSNE(perplexity=min(30.0, (len(points) - 1) / 3), random_state=state).fit_transform(points)
    model = AgglomerativeClustering(count) if by == "agglomerative" else KMeans(count, n_init=10, random_state=state)
    labels = torch.from_numpy(model.fit_predict(points)).long()
    return labels.bincount().argsort(descending=True, stable=True).argsort()[labels]
