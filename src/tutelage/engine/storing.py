"""Writing down what a frozen model makes of each view, before training asks for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tutelage.data.loader import apply
from tutelage.data.seeds import mix, shuffle
from tutelage.data.splits import ids_of
from tutelage.data.store import Layout, Shard, Store
from tutelage.engine import cache
from tutelage.engine.stopping import Interrupted
from tutelage.models.participant import Participant
from tutelage.models.remembered import Remembered
from tutelage.models.stored import Stored
from tutelage.recipe.errors import InputError, Problem
from tutelage.recipe.index import cache_root
from tutelage.recipe.registry import registry
from tutelage.recipe.spec import Recipe, Spec, StoreSection, bare, fingerprint, plain

if TYPE_CHECKING:
    from tutelage.engine.method import Train
    from tutelage.engine.trainer import Trainer


@dataclass(frozen=True)
class Keeping:
    """That a model's logits are to be stored, and of what.

    Args:
        section: What is kept, and where.
        model: What the recipe says of the model, but for its weights.
        augment: What the recipe says of the augmentations.
    """

    section: StoreSection
    model: Mapping[str, Any] = field(default_factory=dict)
    augment: tuple[Any, ...] = ()


def keepings(recipe: Recipe) -> dict[str, Keeping]:
    """The models whose logits a recipe has stored, by name."""
    augment = tuple(plain(recipe.data.extras.get("augment", ())))
    return {
        name: Keeping(spec.extras["store"], plain(bare(spec, "weights", "freeze", "cache", "store")), augment)
        for name, spec in recipe.models.items()
        if spec.extras.get("store") is not None
    }


def views(recipe: Recipe) -> int | None:
    """How many views the student is shown; ``None`` for new ones in every epoch."""
    numbers = {one.section.views for one in keepings(recipe).values() if one.section.consistent}
    return max(numbers) if numbers else None


def replayed(stage: Train, recipe: Recipe) -> Train:
    """The stage, with the stored logits in place of the models that made them."""
    kept = {name: one for name, one in keepings(recipe).items() if name in stage.models}
    return replace(stage, stored=kept, views=views(recipe))


def problems(recipe: Recipe) -> list[Problem]:
    """What cannot be stored, or would be stored of something else than training asks for."""
    found = []
    for name, keeping in keepings(recipe).items():
        spec = recipe.models[name]
        for message, hint in _reasons(recipe, name, spec, keeping.section):
            where = spec.place
            found.append(Problem(message, (name, "store"), where.file, where.line, where.column, hint))
    return found


def _reasons(recipe: Recipe, name: str, spec: Spec, section: StoreSection) -> Iterator[tuple[str, str]]:
    out = "Leave the store out."
    if name == registry().load("method", recipe.method.name).learner:
        yield "a model that is trained has no logits to keep.", "Store those of the teacher."
    if not spec.foreign and registry().get("model", spec.name).facts.get("follows", False):
        yield f"'{spec.name}' follows the student, so what it says changes.", out
    if spec.extras.get("cache"):
        yield "the model has `cache: true` too.", "Leave out one of the two; only a store knows views."
    if recipe.sampler is not None:
        yield "a sampler makes inputs whose logits nobody has stored.", "Leave out one of the two."
    if (section.scale, section.fill) == ("sigmoid", "tail") and section.top_k is not None:
        yield "fill 'tail' is of the softmax scale.", "Choose zero, last_mean, uniform, half or random."
    for augment in recipe.data.extras.get("augment", ()):
        if not augment.foreign and getattr(registry().load("augment", augment.name), "mixes", False):
            yield f"'{augment.name}' makes a sample of several, so that it has no view of its own.", out
    others = [n for n, k in keepings(recipe).items() if k.section.consistent and k.section.views != section.views]
    if others and section.consistent:
        yield f"it keeps {section.views} views, but {others[0]}.store another number.", "Choose one number for all."


def check_needs(recipe: Recipe, taps: Callable[[str], Sequence[str]], differentiated: Collection[str]) -> None:
    """Refuse a method that needs more of a stored model than its logits.

    Raises:
        InputError: Says what it needs.
    """
    for name in keepings(recipe):
        needs = [*taps(name), *(["gradients"] if name in differentiated else [])]
        if needs:
            raise InputError(
                f"{name}.store: only logits are stored, but the method needs {', '.join(needs)} of the model as well; "
                "leave the store out"
            )


def asked_before(trainer: Trainer, participant: Participant) -> Participant | Remembered | Stored:
    """A frozen model itself, or its answers where the stage keeps them."""
    if participant.name in trainer.stage.stored:
        return stored(trainer, participant, trainer.stage.stored[participant.name])
    if participant.name in trainer.stage.remembered:
        # A model whose outputs are too large to keep says what of them is kept.
        recall = getattr(participant.module, "recall", Remembered)
        kept: Remembered = recall(participant, trainer.examples, trainer.device)
        return kept
    return participant


def stored(trainer: Trainer, participant: Participant, keeping: Keeping) -> Stored:
    """The participant's logits of each view, written where they are not yet, and found from now on.

    With several processes each writes its part. Batches are those of training, so that equal views give equal logits to
    the bit, not only but for the order of a sum.

    The time it takes is the stage's.

    Args:
        trainer: The stage that is about to begin.
        participant: Frozen, without taps.
        keeping: What is kept.

    Raises:
        InputError: The folder holds the logits of another model, data set or augmentation.
        Interrupted: It was asked to leave; what is written is kept.
    """
    section = keeping.section
    began = time.perf_counter(), time.process_time()
    store = _opened(trainer, participant, keeping)
    trainer.listener.note(
        f"{participant.name}: {store.bytes_per_sample} bytes a sample and view, {store.views} views of {store.count} "
        f"samples, {store.size() / 1e6:.1f} MB in {store.folder}"
    )
    accelerator = trainer.accelerator
    mine = list(store.shards())[accelerator.process_index :: accelerator.num_processes]
    missing = [shard for shard in mine if not store.whole(shard)]
    task = f"{trainer.stage.name}: storing the {participant.name}"
    if missing:
        done = sum(shard.stop - shard.start for shard in mine if shard not in missing)
        trainer.listener.begin(task, sum(shard.stop - shard.start for shard in mine), done)
        for shard in missing:
            _write(trainer, participant, store, shard)
            done += shard.stop - shard.start
            trainer.listener.advance(task, done, {})
        trainer.listener.end(task)
    accelerator.wait_for_everyone()
    trainer.seconds += time.perf_counter() - began[0]
    trainer.cpu_seconds += time.process_time() - began[1]
    return Stored(participant, store, fill=section.fill, scale=section.scale, consistent=section.consistent)


def _opened(trainer: Trainer, participant: Participant, keeping: Keeping) -> Store:
    section, module = keeping.section, participant.module
    example = trainer.examples.fetch(range(1)).to(trainer.device)
    classes = participant(apply(example, trainer.augment)).logits.shape[-1]
    try:
        layout = Layout(classes, section.top_k, section.dtype)
    except InputError as error:
        raise InputError(f"{participant.name}.store.{error}") from error
    identity = {
        "teacher": fingerprint([cache.content_of(module), keeping.model, cache.sources_of(*module.modules())]),
        "data set": fingerprint(trainer.splits.info.fingerprint),
        "augmentation": fingerprint([keeping.augment, cache.sources_of(*trainer.augment)]),
        "precision": trainer.settings.precision,
    }
    ids, batch = ids_of(trainer.examples), trainer.settings.batch_size
    about: dict[str, Any] = {"identity": identity, "seed": trainer.loader.seed, "views": section.views}
    key = cache.key_of(**about, layout=repr(layout), ids=fingerprint(ids.tolist()), batch=batch)
    folder = Path(section.path).expanduser() if section.path else cache_root() / "stores" / key
    try:
        return Store(folder, **about, ids=ids, layout=layout, batch=batch)
    except InputError as error:
        raise InputError(f"{participant.name}.store: {error}") from error


def _write(trainer: Trainer, participant: Participant, store: Store, shard: Shard) -> None:
    order = shuffle(store.count, store.seed, shard.view)
    rows = []
    for start in range(shard.start, shard.stop, trainer.settings.batch_size):
        if trainer.interruption.asked:
            raise Interrupted(
                f"interrupted while the {participant.name} was stored; what is written is kept. "
                f"Go on with: tutelage resume {trainer.folder.parent.parent}"
            )
        index = order[start : min(start + trainer.settings.batch_size, shard.stop)]
        batch = trainer.examples.fetch(index)
        batch = batch.with_(seeds=mix(store.seed, shard.view, batch.ids)).to(trainer.device)
        with trainer.accelerator.autocast(), torch.no_grad():
            rows.append(store.layout.pack(participant(apply(batch, trainer.augment)).logits))
    store.write(shard, rows)
