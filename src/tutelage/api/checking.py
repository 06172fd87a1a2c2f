"""What a recipe would take, without training it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tutelage.api.running import look_over
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import registry
from tutelage.recipe.spec import Recipe, Spec, TrainSection


def estimate(recipe: Recipe) -> dict[str, Any]:
    """Build a recipe's models on the meta device and count.

    Returns:
        ``models`` (``parameters``, ``weights_bytes``, ``activation_bytes``, ``flops`` of one sample, by slot; and
        ``store_bytes`` of those whose logits are stored), ``data`` (sizes and shape), ``steps``, ``flops`` of all
        training, ``seconds`` (rough, from how fast this machine multiplies matrices), ``memory_bytes`` (weights,
        gradients, optimiser and activations).

    Raises:
        InputError: A part cannot be built, or weights do not fit.
    """
    look_over(recipe)
    import torch

    threads = torch.get_num_threads()
    # Two samples are not worth waking the other processors for, and a waiting thread costs as much as a working one.
    torch.set_num_threads(1)
    try:
        return _estimate(recipe)
    finally:
        torch.set_num_threads(threads)


def _estimate(recipe: Recipe) -> dict[str, Any]:
    from tutelage.data.shaping import training_size
    from tutelage.data.store import Layout
    from tutelage.models.channels import seen
    from tutelage.models.cost import estimate as cost_of

    spec = recipe.data
    outline = outline_of(spec, recipe.seed)
    info = outline.info
    limited = training_size(outline.train, info.classes, spec.extras) if info.classified else _limited(outline, spec)
    models: dict[str, dict[str, float]] = {}
    flops = 0.0
    steps = 0
    memory = 0.0
    method = registry().load("method", recipe.method.name)
    main: int = method.epochs(recipe)
    both = 2 if recipe.baseline and method.compared else 1
    for slot, model in recipe.models.items():
        shown = seen(info, model.extras.get("channels"))
        _same_shape(model, shown)
        row = cost_of(model.build, shown, recipe.train.batch_size)
        models[slot] = {
            "parameters": row["parameters"],
            "weights_bytes": row["bytes"],
            "activation_bytes": row["activation_bytes"],
            "flops": row["flops"],
        }
        store = model.extras.get("store")
        if store is not None:
            try:
                layout = Layout(info.classes, store.top_k, store.dtype)
            except InputError as error:
                raise InputError(f"{slot}.store.{error}") from error
            models[slot]["store_bytes"] = float(layout.row.itemsize * store.views * limited)
        own = _spot(model)
        # Forward once, backward about twice as much; a source only runs forward while it teaches.
        passes = 3.0 * (own.epochs if own else 0)
        if slot == method.learner:
            passes += 3.0 * main * both
            memory += 4.0 * row["bytes"] + row["activation_bytes"]
        else:
            passes += main if store is None else store.views
            memory += row["bytes"]
        flops += passes * row["flops"] * limited
        per_epoch = -(-limited // recipe.train.batch_size)
        steps += per_epoch * (own.epochs if own else 0)
        if slot == method.learner:
            steps += per_epoch * main * both
    return {
        "recipe": recipe.name,
        "models": models,
        "data": {
            "train": limited,
            "validation": outline.validation,
            "test": outline.test,
            "classes": info.classes,
            "input_shape": list(info.input_shape),
        },
        "steps": steps,
        "flops": flops,
        # Small models reach a fraction of a matrix product's speed, and every step has a cost of its own.
        "seconds": flops / (0.15 * _speed() * (os.cpu_count() or 1)) + 0.002 * steps,
        "memory_bytes": memory,
    }


def _limited(outline: Any, spec: Spec) -> int:
    """Training samples of data without classes."""
    return min(int(outline.train), spec.extras.get("limit") or int(outline.train))


def outline_of(spec: Spec, seed: int) -> Any:
    """Sizes and shapes of a data set: from what it says of itself, or by loading it."""
    from tutelage.data.outline import Outline

    data = spec.build()
    own = getattr(data, "outline", None)
    if callable(own):
        return own()
    splits = data.load(seed)
    return Outline(
        splits.info,
        train=len(splits.train),
        validation=len(splits.validation) if splits.validation is not None else 0,
        test=len(splits.test),
    )


def _spot(model: Spec) -> TrainSection | None:
    weights = model.extras.get("weights")
    return weights["train"] if weights is not None and not isinstance(weights, str | Path) else None


def _same_shape(model: Spec, info: Any) -> None:
    """Weights from a file must fit the model that the recipe describes."""
    weights = model.extras.get("weights")
    if isinstance(weights, str | Path):
        import torch

        from tutelage.engine.permission import trusts_pickle
        from tutelage.models.weights import load_weights

        with torch.random.fork_rng(devices=[]):
            load_weights(model.build(info), weights, trust_pickle=trusts_pickle())


def _speed() -> float:
    """Floating-point operations a second of a matrix product here."""
    import time

    import torch

    a = torch.ones(192, 192)
    torch.mm(a, a)
    start = time.perf_counter()
    for _ in range(5):
        torch.mm(a, a)
    return 5 * 2 * 192**3 / max(time.perf_counter() - start, 1e-9)
