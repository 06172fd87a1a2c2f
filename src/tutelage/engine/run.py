"""A run: models from slots, stages in order, the control beside them; every part of it found again after a kill."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from tutelage.data.batch import Batch
from tutelage.data.loader import apply
from tutelage.data.shaping import shape
from tutelage.data.splits import Splits
from tutelage.engine import cache, checkpoint, storing
from tutelage.engine.agreement import agreed
from tutelage.engine.hardware import accelerator_for, peak_memory
from tutelage.engine.listening import Listener
from tutelage.engine.method import Method, Room, Train
from tutelage.engine.optimization import matched, movers
from tutelage.engine.permission import trusts_pickle
from tutelage.engine.ramps import Ramps
from tutelage.engine.randomness import derive, reseed
from tutelage.engine.setting_up import set_up
from tutelage.engine.stopping import Interrupted, Interruption
from tutelage.engine.trainer import Trainer
from tutelage.models.channels import see, seen
from tutelage.models.freezing import freeze
from tutelage.models.weights import load_weights
from tutelage.recipe.building import needs_positional
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import registry
from tutelage.recipe.runfolder import BASELINE, RunFolder, atomic_write
from tutelage.recipe.spec import Recipe, Spec, TrainSection, bare


class Run:
    """One execution of a recipe.

    Args:
        recipe: The recipe.
        folder: Its run folder, locked.
        listener: Hears of progress.
        interruption: Says when to save and leave.
    """

    def __init__(self, recipe: Recipe, folder: RunFolder, listener: Listener, interruption: Interruption) -> None:
        self.recipe, self.folder, self.listener, self.interruption = recipe, folder, listener, interruption
        self.models: dict[str, nn.Module] = {}
        self.records: dict[str, dict[str, Any]] = {}
        self.warnings: list[str] = []
        self.data_spec = recipe.data
        splits: Splits = self.data_spec.build().load(recipe.seed)
        self.splits = shape(splits, self.data_spec.extras, recipe.seed)
        self.warnings.extend(splits.warnings)
        self.augment = [
            spec.build(self.splits.info) if needs_positional(spec) else spec.build()
            for spec in self.data_spec.extras.get("augment", ())
        ]
        self.accelerator = accelerator_for(recipe, folder.path)

    @property
    def kind(self) -> type[Method]:
        """The class of the recipe's method."""
        found: type[Method] = registry().load("method", self.recipe.method.name)
        return found

    @property
    def recipient(self) -> str:
        """The slot whose model is trained."""
        return self.kind.learner

    # ------------------------------------------------------------------ what methods ask for

    def method(self, spec: Spec, also: Sequence[Spec] = ()) -> Method:
        """A method, with the transfer terms of others stacked on it where asked.

        Raises:
            InputError: The method cannot be stacked on.
        """
        reseed(self.recipe.seed, "method", spec.name)
        method: Method = spec.build()
        if also:
            stack = getattr(method, "stacked_with", None)
            if stack is None:
                raise InputError(f"also: the method '{spec.name}' has no transfer term that others can be added to")
            method = stack([other.build() for other in also])
        if self.recipe.sampler is not None:
            method.sampler = self.recipe.sampler.build()
        return method

    def fresh(self, slot: str, generation: int = 0) -> nn.Module:
        """A slot's model at its start: initialised from the run's seed, or from the weights that the recipe names.

        Args:
            slot: Name of a model slot.
            generation: Another number gives another initialisation.
        """
        return self._build(slot, self.recipe.models[slot], generation)

    def members(self, slot: str) -> dict[str, nn.Module]:
        """The models of a slot that takes a list, by name (``mentors-1``, ...), each with its knowledge."""
        return {name: self.source(name) for name in self.recipe.models if name.rpartition("-")[0] == slot}

    def source(self, slot: str) -> nn.Module:
        """A slot's model with its knowledge: weights loaded, or trained on the spot and found again the next time."""
        if slot not in self.models:
            self.models[slot] = self.fresh(slot)
        return self.models[slot]

    def _build(self, slot: str, spec: Spec, generation: int) -> nn.Module:
        module = self._begun(spec, slot, generation)
        weights = spec.extras.get("weights")
        if isinstance(weights, Mapping):
            name = slot if generation == 0 else f"{slot}-{generation}"
            beside = weights.get("callbacks", ())
            self._train_on_labels(name, slot, module, spec, weights["train"], stream=slot, own=beside)
        self._restrict(module, spec, slot, generation)
        return module

    def _restrict(self, module: nn.Module, spec: Spec, *place: str | int) -> None:
        """Say what of a model is trained, once it has its weights."""
        if spec.extras.get("adapter") is not None:
            reseed(self.recipe.seed, *place, "adapter")
            spec.extras["adapter"].build().inject(module)
        freeze(module, spec.extras.get("freeze") or ())

    def _begun(self, spec: Spec, *place: str | int) -> nn.Module:
        """A model before any training here: initialised for a place, or with the weights that the recipe names."""
        parts = {}
        if place[-1] != "preflight":
            # Members with weights of their own are built first: their training draws random numbers too.
            parts = {
                key: [self._build(f"{place[0]}-{i}", one, 0) for i, one in enumerate(value, 1)]
                for key, value in spec.args.items()
                if isinstance(value, tuple) and any(isinstance(v, Spec) and v.kind == "model" for v in value)
            }
        channels = spec.extras.get("channels")
        reseed(self.recipe.seed, *place)
        module: nn.Module = spec.build(seen(self.splits.info, channels), **parts)
        weights = spec.extras.get("weights")
        if isinstance(weights, str | Path):
            load_weights(module, weights, trust_pickle=trusts_pickle())
        return see(module, channels)

    def _train_on_labels(
        self,
        name: str,
        slot: str,
        module: nn.Module,
        spec: Spec,
        settings: TrainSection,
        *,
        stream: str,
        own: Sequence[Spec] = (),
        views: int | None = None,
    ) -> None:
        callbacks = [spec.build() for spec in own]
        key = cache.key_of(
            stage=name,
            model=bare(spec, "cache", "store"),
            start=cache.content_of(module),
            data=self.data_spec,
            content=self.splits.info.fingerprint,
            train={k: v for k, v in settings.to_dict().items() if k != "checkpoint"},
            seed=[self.recipe.seed, slot, stream, views],
            callbacks=list(own),
            code=cache.sources_of(*module.modules(), *self.augment, *callbacks),
            processes=self.accelerator.num_processes,
        )
        stage = Train(
            name,
            self.kind.alone(slot),
            {slot: module},
            settings,
            validated=slot,
            stream=stream,
            cache=key,
            views=views,
            callbacks=callbacks,
        )
        self.execute(stage)

    # ------------------------------------------------------------------ stages

    def execute(self, stage: Train) -> None:
        """Bring a stage to its end: by doing it, by finishing it, or by finding that it was done.

        Raises:
            Interrupted: It was asked to leave; the state is saved.
            RunError: The stage failed.
        """
        folder = self.folder.path / "stages" / stage.name
        # The first process decides throughout: another that looks a moment later may see what was written since.
        if agreed(self.accelerator, (folder / "record.json").is_file()) and self._adopt(stage, folder):
            return
        if stage.name in self.records:
            raise ValueError(f"two stages are called '{stage.name}'")
        if agreed(self.accelerator, self.interruption.asked):
            raise Interrupted(
                f"interrupted before stage '{stage.name}'; what came before it is saved. "
                f"Go on with: tutelage resume {self.folder.path}"
            )
        if stage.cache is not None and self._reuse(stage, folder, stage.cache):
            return
        self._event("stage", name=stage.name)
        self._train(stage, folder)

    def _reuse(self, stage: Train, folder: Path, key: str) -> bool:
        found = cache.find(key) if self.accelerator.is_main_process else None
        if not agreed(self.accelerator, found is not None):
            return False
        if found is not None:
            weights, record = found
            state = {"models": weights, "method": {}, "optimizers": {}, "past_epochs": 0, "epoch": 0}
            self._finish(folder, state, {**record, "reused": True})
        self.accelerator.wait_for_everyone()
        self.listener.note(f"stage '{stage.name}' is reused: the same training was done before")
        return self._adopt(stage, folder)

    def _train(self, stage: Train, folder: Path) -> None:
        earlier = None
        if stage.continues is not None:
            earlier = self._end(self.folder.path / "stages" / stage.continues)
        trainer = Trainer(
            stage,
            splits=self.splits,
            augment=self.augment,
            accelerator=self.accelerator,
            seed=self.recipe.seed,
            folder=folder,
            listener=self.listener,
            interruption=self.interruption,
            workers=self.data_spec.extras.get("workers", 0),
            earlier=earlier,
            past_steps=sum(record["steps"] for record in self.records.values()),
        )
        try:
            record = trainer.run()
            record["peak_memory"] = peak_memory(self.accelerator.device)
            state = trainer.state()
        finally:
            trainer.close()
        self.records[stage.name] = record
        if self.accelerator.is_main_process:
            self._finish(folder, state, record)
            if stage.cache is not None and record["stopped"] is None:
                cache.keep(stage.cache, state["models"], record)
        self.accelerator.wait_for_everyone()
        for epoch in record["history"]:
            self._event("epoch", **_finite(epoch))

    def _adopt(self, stage: Train, folder: Path) -> bool:
        """Take a finished stage's end; false where it is damaged, and has to be done again."""
        state = self._end(folder)
        if state is None:
            return False
        for module in stage.models.values():
            module.to(self.accelerator.device)
        if state["method"]:
            # What a method owns is built while it sets up; only then is there something to load into. A method may give
            # models their start while it does, so their end is loaded after it.
            examples = self.splits.train if stage.examples is None else stage.examples
            set_up(stage, self.splits.info, self.example(), self.recipe.seed, examples)
            stage.method.to(self.accelerator.device)
            stage.method.load_state_dict(state["method"])
        for name, weights in state["models"].items():
            stage.models[name].load_state_dict(weights)
        self.records[stage.name] = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        return True

    def _end(self, folder: Path) -> Mapping[str, Any] | None:
        found = checkpoint.latest(folder / "end", warn=self.listener.note)
        return found[1] if found is not None else None

    def _finish(self, folder: Path, state: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        checkpoint.save(folder / "end", 0, state, keep=1)
        atomic_write(folder / "record.json", json.dumps(record))

    def _cached(self) -> frozenset[str]:
        return frozenset(name for name, spec in self.recipe.models.items() if spec.extras.get("cache"))

    def _event(self, kind: str, **fields: Any) -> None:
        if self.accelerator.is_main_process:
            self.folder.event(kind, **fields)

    def example(self) -> Batch:
        """A few augmented samples, where the models are."""
        few = self.splits.train.fetch(range(min(4, len(self.splits.train))))
        return apply(few.to(self.accelerator.device), self.augment)

    # ------------------------------------------------------------------ the whole

    def preflight(self) -> None:
        """Build everything once and throw it away, so that a mistake is found before anything is trained.

        Raises:
            InputError: Weights, taps or shapes do not fit.
        """
        slots = self.recipe.models
        if self._cached() and self.augment:
            raise InputError(
                f"{', '.join(sorted(self._cached()))}.cache: what a model makes of a sample can only be kept while the "
                "sample stays the same, and data.augment changes it every epoch; leave out one of the two"
            )
        modules: dict[str, nn.Module] = {}
        for slot, spec in slots.items():
            modules[slot] = self._begun(spec, slot, "preflight")
            if isinstance(weights := spec.extras.get("weights"), Mapping):
                movers(self.kind.alone(slot).turns(), modules, weights["train"])
            self._restrict(modules[slot], spec, slot, "preflight")
        example = apply(self.splits.train.fetch(range(min(4, len(self.splits.train)))), self.augment)
        recipe = self.recipe
        whole = [(recipe.method, recipe.also, recipe.train)]
        for spec, also, train in [(s.method, s.also, s.train) for s in recipe.stages] or whole:
            trainable = [name for name in modules if name == self.recipient]
            room = Room(modules, self.splits.info, example, trainable, examples=self.splits.train)
            for name in modules:
                room.look(name)
            method = self.method(spec, also)
            Ramps(method)
            method.prepare(room)
            storing.check_needs(self.recipe, room.taps, room.differentiated)
            # A method whose stages have turns of their own says so by having none itself.
            if type(method).turns is not Method.turns:
                movers(method.turns(), {**modules, "method": method}, train)

    def sources(self) -> None:
        """Bring every model slot that only teaches to its knowledge, before anything else is spent."""
        for name in self.recipe.models:
            if name != self.recipient:
                self.source(name)

    def transfer(self) -> Method:
        """Do the method's stages; the method, once they are done."""
        method = self.method(self.recipe.method, self.recipe.also)
        for stage in method.stages(self):
            stage = replace(storing.replayed(stage, self.recipe), remembered=stage.remembered | self._cached())
            own = (
                stage if stage.callbacks else replace(stage, callbacks=[spec.build() for spec in self.recipe.callbacks])
            )
            self.execute(own)
        return method

    def baseline(self) -> nn.Module | None:
        """The recipient's twin, trained as long on the same batches from the same start, without transfer."""
        mine = self.recipient
        if not self.recipe.baseline or mine not in self.recipe.slots or not self.kind.compared:
            return None
        spec = self.recipe.models[mine]
        # Where the student was itself trained first, that stage is found done, and its end loaded.
        twin = self._build(mine, spec, 0)
        names = [name for name, parameter in twin.named_parameters() if parameter.requires_grad]
        epochs = sum(stage.train.epochs for stage in self.recipe.stages) or self.recipe.train.epochs
        # Groups of what only the method owns have nothing to match here.
        groups = tuple(group for group in self.recipe.train.groups if matched([f"{mine}.{n}" for n in names], group))
        settings = replace(self.recipe.train, epochs=epochs, groups=groups)
        own, views = self.recipe.callbacks, storing.views(self.recipe)
        self._train_on_labels(BASELINE, mine, twin, spec, settings, stream="data", own=own, views=views)
        return twin

    def seed_of(self, *place: str | int) -> int:
        """A seed for a place in this run."""
        return derive(self.recipe.seed, *place)


def _finite(value: Any) -> Any:
    """The value as strict JSON can say it: a number that is not finite is none."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
