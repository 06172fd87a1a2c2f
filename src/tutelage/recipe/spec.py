"""A recipe once it is checked: frozen, complete, and equal to what it reloads as."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, MinLen

from tutelage.recipe.scan import REQUIRED
from tutelage.recipe.types import Of
from tutelage.recipe.yaml_source import Place


class Frozen(Mapping[str, Any]):
    """A mapping that cannot be changed, but can be hashed, compared, copied and pickled."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, Any] | None = None) -> None:
        self._items: dict[str, Any] = dict(items or {})

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)

    def __reduce__(self) -> tuple[Any, ...]:
        return Frozen, (self._items,)


class FrozenList(tuple[Any, ...]):
    """A list that cannot be changed; components that ask for a list are given one again when built."""

    __slots__ = ()


def freeze(value: Any) -> Any:
    """The same value, unchangeable throughout."""
    if isinstance(value, Mapping):
        return Frozen({key: freeze(item) for key, item in value.items()})
    if isinstance(value, list | FrozenList):
        return FrozenList(freeze(item) for item in value)
    if isinstance(value, tuple):
        return tuple(freeze(item) for item in value)
    return frozenset(value) if isinstance(value, set) else value


def thaw(value: Any) -> Any:
    """The value as a component's signature asked for it, lists and dictionaries again."""
    if isinstance(value, FrozenList):
        return [thaw(item) for item in value]
    if isinstance(value, tuple):
        return tuple(thaw(item) for item in value)
    return {key: thaw(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def plain(value: Any) -> Any:
    """The value as YAML and JSON know it."""
    if isinstance(value, Spec | Section | Recipe):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, frozenset | set):
        return sorted((plain(item) for item in value), key=repr)
    return str(value) if isinstance(value, Path) else value


def fingerprint(value: Any) -> str:
    """SHA-256 of a value's canonical JSON: key order and formatting do not count."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Spec:
    """A component and its checked arguments.

    Args:
        kind: Its kind in the registry.
        name: Its name there, or ``package.module:Attribute``.
        args: Every argument, defaults included; nested components are Specs.
        extras: Keys that all of its kind share: ``weights`` and ``freeze`` of models; ``augment``, ``workers`` and
            ``limit`` of data.
        place: Where the recipe names it.
    """

    kind: str
    name: str
    args: Mapping[str, Any] = field(default_factory=Frozen)
    extras: Mapping[str, Any] = field(default_factory=Frozen)
    place: Place = field(default=Place(), compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "args", freeze(self.args))
        object.__setattr__(self, "extras", freeze(self.extras))

    @property
    def foreign(self) -> bool:
        """Whether it names the user's own ``package.module:Attribute``."""
        return ":" in self.name

    def build(self, *positional: Any, **overrides: Any) -> Any:
        """Import the component and call it with its arguments.

        Nested components are built first, unless they need positional arguments: those are handed over as Specs, for
        only their owner knows what to give them.

        Args:
            *positional: What the engine supplies, e.g. the `DataInfo` for a model.
            **overrides: Arguments that replace those of the recipe.

        Raises:
            InputError: It cannot be imported, or (user's own components) the arguments do not fit its signature.
        """
        from tutelage.recipe.building import build

        return build(self, positional, overrides)

    def with_(self, **args: Any) -> Spec:
        """A copy with some arguments replaced."""
        return Spec(self.kind, self.name, {**self.args, **args}, self.extras, self.place)

    def to_dict(self) -> dict[str, Any]:
        """As a recipe would say it, with every default written out."""
        key = "model" if self.kind == "model" else "name"
        return {key: self.name, **plain(self.args), **plain(self.extras)}

    def fingerprint(self) -> str:
        """SHA-256 of what it says."""
        return fingerprint((self.kind, self.to_dict()))


def bare(spec: Spec, *keys: str) -> Spec:
    """The component without some of the keys that its kind shares."""
    return Spec(spec.kind, spec.name, spec.args, {k: v for k, v in spec.extras.items() if k not in keys}, spec.place)


class Section:
    """A fixed part of a recipe: a frozen dataclass whose fields are its keys."""

    def to_dict(self) -> dict[str, Any]:
        """As a recipe would say it, with every default written out."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]

    def fingerprint(self) -> str:
        """SHA-256 of what it says."""
        return fingerprint(self)


@dataclass(frozen=True)
class Inner:
    """Marks a key that holds a section of this class."""

    section: type[Section]


@dataclass(frozen=True, kw_only=True)
class CheckpointSection(Section):
    """When to save, so that a killed run goes on where it was.

    Args:
        seconds: Save at most this long after the last save; null for never by time.
        steps: Save every this many optimiser steps; null for never by steps.
        keep: How many of the newest checkpoints stay.
    """

    seconds: Annotated[float, Gt(0)] | None = 15.0
    steps: Annotated[int, Ge(1)] | None = None
    keep: Annotated[int, Ge(1)] = 2


@dataclass(frozen=True, kw_only=True)
class GroupSection(Section):
    """Parameters that are optimised differently.

    Args:
        match: Pattern on parameter names, with ``*`` and ``?``, e.g. ``classifier.*``.
        lr_scale: Factor on the learning rate.
        weight_decay: Their own weight decay; null for the optimizer's.
    """

    match: str
    lr_scale: Annotated[float, Ge(0)] = 1.0
    weight_decay: Annotated[float, Ge(0)] | None = None


@dataclass(frozen=True, kw_only=True)
class StoreSection(Section):
    """What is kept on disk of a frozen model's logits, so that training need not run it.

    Args:
        views: How many views of each sample are kept; epoch e shows view e modulo this.
        top_k: How many of the largest logits are kept, with the mass of the others; null for all.
        dtype: Precision of the logits: fp16, or fp32.
        fill: What the classes that are not kept get: tail, zero, last_mean, uniform, half or random.
        scale: Which probabilities the fill is of: softmax, or sigmoid.
        consistent: Show the student the stored views; false shows it new ones, with the scores of old ones.
        path: Folder of the store; null for one in the cache.
    """

    views: Annotated[int, Ge(1)] = 1
    top_k: Annotated[int, Ge(1)] | None = None
    dtype: Literal["fp16", "fp32"] = "fp16"
    fill: Literal["tail", "zero", "last_mean", "uniform", "half", "random"] = "tail"
    scale: Literal["softmax", "sigmoid"] = "softmax"
    consistent: bool = True
    path: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrainSection(Section):
    """How to optimise.

    Args:
        epochs: Passes over the training data.
        batch_size: Samples of one optimiser step, over all processes and accumulated parts.
        optimizer: What moves the parameters.
        schedule: How the learning rate moves.
        accumulate: Parts that a batch is cut into to save memory; the result is the same.
        clip_norm: Largest gradient norm; null for no limit.
        precision: Arithmetic of the forward pass.
        compile: Whether to compile the models.
        groups: Parameters that are optimised differently; the first match counts.
        checkpoint: When to save.
    """

    epochs: Annotated[int, Ge(1)] = 10
    batch_size: Annotated[int, Ge(1)] = 128
    # Components have no Python default: theirs is looked up in the registry, by the name in the metadata.
    optimizer: Annotated[Spec, Of("optimizer")] = field(metadata={"default": "adamw"})
    schedule: Annotated[Spec, Of("schedule")] = field(metadata={"default": "cosine"})
    accumulate: Annotated[int, Ge(1)] = 1
    clip_norm: Annotated[float, Gt(0)] | None = None
    precision: Literal["no", "bf16", "fp16"] = "no"
    compile: bool = False
    groups: Annotated[tuple[GroupSection, ...], Inner(GroupSection)] = ()
    checkpoint: Annotated[CheckpointSection, Inner(CheckpointSection)] = field(default_factory=CheckpointSection)


@dataclass(frozen=True, kw_only=True)
class Stage(Section):
    """One stage of a sequence; what it does not say is as in the recipe.

    Args:
        name: Its name in logs and folders.
        method: Its method.
        also: Methods whose transfer terms are added.
        train: How it optimises.
    """

    name: str
    method: Annotated[Spec, Of("method")]
    also: Annotated[tuple[Spec, ...], Of("method")] = ()
    train: Annotated[TrainSection, Inner(TrainSection)]


@dataclass(frozen=True, kw_only=True)
class CompareSection(Section):
    """What ``tutelage compare`` runs where it is not told otherwise; ``tutelage run`` does not look at it.

    Args:
        methods: Variants: what the recipe's method is replaced by.
        seeds: Each variant runs once with each.
        reference: The variant that others are compared with; null for the first.
    """

    methods: Annotated[tuple[Spec, ...], Of("method"), MinLen(1)]
    seeds: Annotated[tuple[Annotated[int, Ge(0)], ...], MinLen(1)] = (0, 1, 2)
    reference: str | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One transfer, declared and checked.

    Args:
        name: Names the run; the file's stem unless given.
        method: The method.
        slots: Its inputs by name: a Spec, or a tuple of them where the slot takes a list.
        also: Methods whose transfer terms are added to it.
        sampler: Where the inputs come from that teacher and student are compared on; null for the data's own batches.
        stages: A sequence in place of one stage; empty for one.
        train: How to optimise.
        measure: What to measure.
        callbacks: What else happens during training.
        trackers: Where numbers are sent besides the run folder.
        seed: Seed of everything random.
        baseline: Whether the same student is also trained without transfer, to compare with.
        compare: What is compared with it by ``tutelage compare``; null for nothing.
        source: The file it came from.
    """

    name: str
    method: Spec
    slots: Mapping[str, Any]
    also: tuple[Spec, ...] = ()
    sampler: Annotated[Spec, Of("sampler")] | None = None
    stages: tuple[Stage, ...] = ()
    train: TrainSection
    measure: tuple[Spec, ...] = ()
    callbacks: tuple[Spec, ...] = ()
    trackers: tuple[Spec, ...] = ()
    seed: Annotated[int, Ge(0), Le(2**63 - 1)] = 0
    baseline: bool = True
    compare: Annotated[CompareSection, Inner(CompareSection)] | None = None
    source: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "slots", freeze(self.slots))

    @property
    def models(self) -> dict[str, Spec]:
        """Every model by the name of its slot; those of a list are called ``mentors-1``, ``mentors-2`` and so on."""
        out: dict[str, Spec] = {}
        for slot, value in self.slots.items():
            several = isinstance(value, tuple)
            for place, spec in enumerate(value if several else (value,), 1):
                if isinstance(spec, Spec) and spec.kind == "model":
                    out[f"{slot}-{place}" if several else slot] = spec
        return out

    @property
    def data(self) -> Spec:
        """The data set."""
        return next(s for s in self.slots.values() if isinstance(s, Spec) and s.kind == "data")

    def to_dict(self) -> dict[str, Any]:
        """The recipe with every default written out; `load_recipe` of it gives an equal recipe."""
        out: dict[str, Any] = {"name": self.name, "method": plain(self.method), **plain(self.slots)}
        for key in (
            "also",
            "sampler",
            "stages",
            "train",
            "measure",
            "callbacks",
            "trackers",
            "seed",
            "baseline",
            "compare",
        ):
            out[key] = plain(getattr(self, key))
        return out

    def to_yaml(self) -> str:
        """`to_dict` as YAML 1.2 text."""
        from tutelage.recipe.yaml_writer import to_yaml

        return to_yaml(self.to_dict())

    def fingerprint(self) -> str:
        """SHA-256 of what it says."""
        return fingerprint(self)


def default_of(spec: Any) -> Any:
    """The YAML default of a dataclass field, or `REQUIRED`."""
    from dataclasses import MISSING

    if "default" in spec.metadata:
        return spec.metadata["default"]
    if spec.default_factory is not MISSING:
        return plain(spec.default_factory())
    return REQUIRED if spec.default is MISSING else plain(spec.default)
