"""Experiments that a recipe cannot say: classes that nobody saw, images without labels, angles between layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tutelage.data.batch import Batch
from tutelage.data.digits import Digits
from tutelage.distill.parts.layer_angles import layer_angles
from tutelage.distill.rkd import RKD
from tutelage.distill.topkd import TopKD
from tutelage.engine.terms import Losses
from tutelage.losses import cross_entropy, kl_divergence
from tutelage.models.convnet import ConvNet
from tutelage.models.mlp import MLP
from tutelage.models.outputs import Outputs
from tutelage.models.vit import ViT
from tutelage.models.weights import load_weights

Row = Callable[[str, str, Sequence[float]], dict[str, Any]]
Found = dict[tuple[str, str], list[float]]


def join(record: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """A record with another experiment's rows, set-up and finding after its own."""
    together = {key: f"{record[key]} {more[key]}" for key in ("setup", "note")}
    return {**record, **together, "rows": [*record["rows"], *more["rows"]]}


def fit(model: nn.Module, batch: Batch, loss: Callable[[Batch], Tensor], *, epochs: int, size: int, lr: float) -> None:
    """Plain training: batches in random order, AdamW with cosine."""
    optimizer = torch.optim.AdamW(model.parameters(), lr)
    steps = epochs * (len(batch) // size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(batch))
        for start in range(0, len(batch) - size + 1, size):
            optimizer.zero_grad()
            loss(part(batch, order[start : start + size])).backward()
            optimizer.step()
            schedule.step()
    model.eval()


def part(batch: Batch, chosen: Tensor) -> Batch:
    """Some samples."""
    return Batch(batch.inputs[chosen], batch.labels[chosen], batch.ids[chosen], batch.seeds[chosen])


def compare(rows: Row, found: Found) -> list[dict[str, Any]]:
    """Rows of what was found, in its order."""
    return [rows(name, metric, values) for (name, metric), values in found.items()]


# ---------------------------------------------------------------------- relations, on classes that nobody has seen


class _Unit(nn.Module):
    def forward(self, vectors: Tensor) -> Tensor:
        return functional.normalize(vectors, dim=-1)


def _recall(points: Tensor, labels: Tensor) -> float:
    apart = torch.cdist(points, points)
    nearest = apart.fill_diagonal_(float("inf")).argmin(1)
    return float((labels[nearest] == labels).float().mean())


def _triplet(points: Tensor, labels: Tensor) -> Tensor:
    """Margin 0.2 between unit vectors, over all triplets that violate it."""
    apart = torch.cdist(functional.normalize(points, dim=-1), functional.normalize(points, dim=-1))
    same = labels[:, None] == labels[None, :]
    other = ~same
    same = same & ~torch.eye(len(labels), dtype=torch.bool)
    over = (apart[:, :, None] - apart[:, None, :] + 0.2)[same[:, :, None] & other[:, None, :]].clamp(min=0)
    return over.sum() / (over > 0).sum().clamp(min=1)


def _distances(points: Tensor) -> Tensor:
    return torch.pdist(points)


def unseen_classes(seeds: Sequence[int], rows: Row) -> dict[str, Any]:
    """RKD's own field: an embedding of 4 numbers from one of 32, judged by neighbours among digits 6 to 9."""
    found: Found = {}
    weights = {"RKD-D": (1.0, 0.0), "RKD-A": (0.0, 2.0), "RKD-DA": (1.0, 2.0)}
    for seed in seeds:
        splits = Digits(test_fraction=0.4, split_seed=None).load(seed)
        train, test = splits.train.fetch(range(len(splits.train))), splits.test.fetch(range(len(splits.test)))
        torch.manual_seed(seed)
        seen = (train.labels < 6).nonzero().flatten()
        train = part(train, seen[torch.randperm(len(seen))[:300]])
        unseen = part(test, (test.labels >= 6).nonzero().flatten())
        network = ConvNet(splits.info, width=16)
        network.head = nn.Linear(64, 32)
        teacher = nn.Sequential(network, _Unit())
        head = nn.Linear(32, 6, bias=False)
        both = nn.ModuleList([teacher, head])

        def teach(batch: Batch, teacher: nn.Module = teacher, head: nn.Module = head) -> Tensor:
            return cross_entropy(10.0 * head(teacher(batch.inputs)), batch.labels).mean()

        fit(both, train, teach, epochs=60, size=30, lr=3e-3)

        def student(seed: int = seed) -> nn.Module:
            torch.manual_seed(1000 + seed)
            return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4))

        with torch.no_grad():
            there, shown = teacher(unseen.inputs), teacher(train.inputs)
        # Ids are places in the pool; what the teacher makes of a training image is looked up by its place here.
        train = Batch(train.inputs, train.labels, torch.arange(len(train)), train.seeds)
        trained: dict[str, nn.Module] = {"untrained student": student(), "triplet student": student()}

        def by_labels(batch: Batch, model: nn.Module = trained["triplet student"]) -> Tensor:
            return _triplet(model(batch.inputs), batch.labels)

        fit(trained["triplet student"], train, by_labels, epochs=300, size=60, lr=3e-3)
        for name, (distance, angle) in weights.items():
            model = trained[name] = student()
            method = RKD(distance_weight=distance, angle_weight=angle, task_weight=0.0)

            def relations(
                batch: Batch, model: nn.Module = model, method: RKD = method, shown: Tensor = shown
            ) -> Tensor:
                ours, theirs = model(batch.inputs), shown[batch.ids]
                losses: Losses = method.loss(
                    Outputs(ours, {"embedding": ours}), Outputs(theirs, {"embedding": theirs}), batch
                )
                return losses.total()

            fit(model, train, relations, epochs=300, size=60, lr=3e-3)
        with torch.no_grad():
            for name, model in trained.items():
                points = model(unseen.inputs)
                found.setdefault((name, "recall@1"), []).append(_recall(points, unseen.labels))
                alike = torch.corrcoef(torch.stack([_distances(points), _distances(there)]))[0, 1]
                found.setdefault((name, "distance correlation"), []).append(float(alike))
            found.setdefault(("teacher embedding", "recall@1"), []).append(_recall(there, unseen.labels))
    first, after = found["untrained student", "recall@1"], found["RKD-DA", "recall@1"]
    gain = rows("RKD-DA over untrained", "gain in recall@1", [b - a for a, b in zip(first, after, strict=True)])
    triplet = found["triplet student", "recall@1"]
    over = rows("RKD-DA over triplet", "gain in recall@1", [b - a for a, b in zip(triplet, after, strict=True)])
    return {
        "rows": [*compare(rows, found), gain, over],
        "setup": (
            "Unseen classes: a convnet with a unit embedding of 32 numbers learns digits 0 to 5 from 300 images; a "
            "student 64-16-4 learns from the same images, by relations alone or by triplets, 300 epochs; judged by the "
            "nearest neighbour, and by the correlation of distances with the teacher's, among test digits 6 to 9."
        ),
        "note": (
            f"On unseen classes relations alone move recall@1 by {_said(gain)} over the untrained student and by "
            f"{_said(over)} over the triplet student."
        ),
    }


def _said(row: Mapping[str, Any]) -> str:
    return f"{100 * row['mean']:+.1f} points [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"


# ---------------------------------------------------------------------- directions, on images without labels


def few_labels(seeds: Sequence[int], rows: Row) -> dict[str, Any]:
    """TopKD's card: 100 images with labels and 799 without, a teacher that knows all of them."""
    found: Found = {}
    variants: dict[str, TopKD | str | None] = {
        "few labels: CE": None,
        "few labels: TDL": TopKD(k=3, tsm=False, contrastive_weight=0.0),
        "few labels: TSM + TDL": TopKD(k=3, contrastive_weight=0.0),
        "few labels: TSM + TDL + contrast": TopKD(k=3),
        "few labels: kd": "kd",
    }
    for seed in seeds:
        splits = Digits(test_fraction=0.4, split_seed=None).load(seed)
        train, test = splits.train.fetch(range(len(splits.train))), splits.test.fetch(range(len(splits.test)))
        torch.manual_seed(seed)
        teacher = ConvNet(splits.info, width=32)

        def teach(batch: Batch, model: nn.Module = teacher) -> Tensor:
            return cross_entropy(model(batch.inputs), batch.labels).mean()

        fit(teacher, train, teach, epochs=30, size=32, lr=3e-3)
        with torch.no_grad():
            shown = teacher(train.inputs)
        known = torch.zeros(len(train), dtype=torch.bool)
        known[torch.randperm(len(train))[:100]] = True
        # A label that nobody knows is -1.
        train = Batch(train.inputs, train.labels.where(known, -1), torch.arange(len(train)), train.seeds)
        for name, method in variants.items():
            torch.manual_seed(1000 + seed)
            model = MLP(splits.info, hidden=(16,))
            few = part(train, known.nonzero().flatten())

            def loss(batch: Batch, model: nn.Module = model, method: Any = method, shown: Tensor = shown) -> Tensor:
                ours, theirs = model(batch.inputs), shown[batch.ids]
                has = batch.labels >= 0
                task = cross_entropy(ours[has], batch.labels[has]).sum() / max(int(has.sum()), 1)
                if method is None:
                    return task
                if method == "kd":
                    return 0.5 * task + 0.5 * kl_divergence(ours, theirs, temperature=4.0).mean()
                terms: Losses = method.transfer(Outputs(ours), Outputs(theirs), batch)
                return task + terms.total()

            # As many steps for all, for otherwise the number of updates would be compared.
            epochs, data = (600, few) if method is None else (67, train)
            fit(model, data, loss, epochs=epochs, size=20, lr=3e-3)
            with torch.no_grad():
                right = (model(test.inputs).argmax(-1) == test.labels).float().mean()
            found.setdefault((name, "accuracy"), []).append(float(right))
        with torch.no_grad():
            right = (teacher(test.inputs).argmax(-1) == test.labels).float().mean()
        found.setdefault(("few labels: teacher", "accuracy"), []).append(float(right))
    names = list(variants)
    ours, control = found[names[3], "accuracy"], found[names[0], "accuracy"]
    gain = rows(f"{names[3]}, over CE", "gain", [b - a for a, b in zip(control, ours, strict=True)])
    kd = rows(f"{names[3]}, over kd", "gain", [b - a for a, b in zip(found[names[4], "accuracy"], ours, strict=True)])
    return {
        "rows": [*compare(rows, found), gain, kd],
        "setup": (
            "Few labels: a student 64-16-10 with 100 labelled and 799 unlabelled images, about 3,000 steps of batch 20 "
            "for each; the teacher, a convnet of width 32, has learned from the labels of all 899."
        ),
        "note": (
            f"With unlabelled images the whole of TopKD moves accuracy by {_said(gain)} over labels alone, and by "
            f"{_said(kd)} over classic distillation."
        ),
    }


# ---------------------------------------------------------------------- angles between layers


def angles(
    seeds: Sequence[int], rows: Row, folders: Mapping[str, Sequence[Path]], teachers: Callable[[int], Path]
) -> dict[str, Any]:
    """The angles from student states to pairs of teacher states, at first and after training."""
    found: Found = {}
    for place, seed in enumerate(seeds):
        splits = Digits(test_fraction=0.4, split_seed=None).load(seed)
        test = splits.test.fetch(range(len(splits.test)))
        teacher = _vit(splits.info, 6, seed)
        load_weights(teacher, teachers(seed))
        students = {"at first": _vit(splits.info, 3, 1000 + seed)}
        for name, paths in folders.items():
            students[f"after {name}"] = _vit(splits.info, 3, seed)
            load_weights(students[f"after {name}"], paths[place] / "model")
        for name, student in students.items():
            looked = layer_angles(teacher, student, test)
            found.setdefault((name, "acute angles"), []).append(looked.acute)
            found.setdefault((name, "mean cosine"), []).append(looked.mean)
    shares = {name: sum(values) / len(values) for (name, metric), values in found.items() if metric == "acute angles"}
    least = min((name for name in shares if name != "at first"), key=shares.__getitem__)
    return {
        "rows": compare(rows, found),
        "setup": (
            "Angles are over all test images, tokens, student states (embeddings too) and pairs of teacher states."
        ),
        "note": (
            f"{100 * shares['at first']:.0f} % of the angles are acute at first, and at least "
            f"{100 * shares[least]:.0f} % ({least}) after training."
        ),
    }


def _vit(info: Any, depth: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return ViT(info, patch=(1, 8), dim=32, depth=depth, heads=4)
