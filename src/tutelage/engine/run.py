"""A run: models from slots, stages in order, the control beside them; every part of it found again after a kill."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn

from tutelage.data.loader import apply
from tutelage.data.splits import Splits, limit
from tutelage.engine import cache, checkpoint
from tutelage.engine.listening import Listener
from tutelage.engine.method import Method, Room, Train
from tutelage.engine.permission import trusts_pickle
from tutelage.engine.randomness import derive, reseed
from tutelage.engine.stopping import Interrupted, Interruption
from tutelage.engine.supervised import LabelTraining
from tutelage.engine.trainer import Trainer
from tutelage.models.freezing import freeze
from tutelage.models.weights import load_weights
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import registry
from tutelage.recipe.runfolder import RunFolder, atomic_write
from tutelage.recipe.spec import Recipe, Spec, TrainSection

BASELINE = "baseline"


def accelerator_for(recipe: Recipe, folder: Path) -> Accelerator:
    """Accelerate, set up as the recipe and the launcher say.

    Raises:
        InputError: The precision does not exist on this device.
    """
    # Accelerate remembers its first configuration for the process; a second run may want another.
    if AcceleratorState._shared_state and AcceleratorState().num_processes == 1:
        AcceleratorState._reset_state(reset_partial_state=True)
    trackers = [tracker.build() for tracker in recipe.trackers]
    try:
        accelerator = Accelerator(
            mixed_precision=recipe.train.precision,
            log_with=[tracker.name for tracker in trackers] or None,
            project_dir=str(folder / "trackers"),
            # A method may leave parts of a model without a gradient, e.g. the head when only relations are matched.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
    except (ValueError, ImportError) as error:
        raise InputError(f"train.precision {recipe.train.precision} or trackers: {error}") from error
    if trackers:
        accelerator.init_trackers(
            recipe.name,
            config={"method": recipe.method.name, "seed": recipe.seed},
            init_kwargs={tracker.name: tracker.options() for tracker in trackers},
        )
    return accelerator


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
        self.data_spec = next(s for s in recipe.slots.values() if isinstance(s, Spec) and s.kind == "data")
        splits: Splits = self.data_spec.build().load(recipe.seed)
        self.splits = replace(splits, train=limit(splits.train, self.data_spec.extras.get("limit"), recipe.seed))
        self.warnings.extend(splits.warnings)
        self.augment = [spec.build() for spec in self.data_spec.extras.get("augment", ())]
        self.accelerator = accelerator_for(recipe, folder.path)

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
        return method

    def fresh(self, slot: str, generation: int = 0) -> nn.Module:
        """A slot's model at its start: initialised from the run's seed, or from the weights that the recipe names.

        Args:
            slot: Name of a model slot.
            generation: Another number gives another initialisation.
        """
        return self._build(slot, self.recipe.slots[slot], generation)

    def source(self, slot: str) -> nn.Module:
        """A slot's model with its knowledge: weights loaded, or trained on the spot and found again the next time."""
        if slot not in self.models:
            self.models[slot] = self.fresh(slot)
        return self.models[slot]

    def _build(self, slot: str, spec: Spec, generation: int) -> nn.Module:
        reseed(self.recipe.seed, slot, generation)
        module: nn.Module = spec.build(self.splits.info)
        weights = spec.extras.get("weights")
        if isinstance(weights, str | Path):
            load_weights(module, weights, trust_pickle=trusts_pickle())
        elif isinstance(weights, Mapping):
            self._train_on_labels(slot, slot, module, spec, weights["train"], stream=slot)
        freeze(module, spec.extras.get("freeze") or ())
        return module

    def _train_on_labels(
        self, name: str, slot: str, module: nn.Module, spec: Spec, settings: TrainSection, *, stream: str, callbacks: bool = False
    ) -> None:
        own = self.recipe.callbacks if callbacks else ()
        key = cache.key_of(
            model=spec,
            data=self.data_spec,
            content=self.splits.info.fingerprint,
            train={k: v for k, v in settings.to_dict().items() if k != "checkpoint"},
            seed=[self.recipe.seed, slot, stream],
            callbacks=list(own),
            processes=self.accelerator.num_processes,
        )
        stage = Train(
            name,
            LabelTraining(slot),
            {slot: module},
            settings,
            validated=slot,
            stream=stream,
            cache=key,
            callbacks=[spec.build() for spec in own],
        )
        self.execute(stage)

    # ------------------------------------------------------------------ stages

    def execute(self, stage: Train) -> None:
        """Bring a stage to its end: by doing it, by finishing it, or by finding that it was done.

        Raises:
            Interrupted: It was asked to leave; the state is saved.
            RunError: The stage failed.
        """
        if stage.name in self.records:
            raise ValueError(f"two stages are called '{stage.name}'")
        folder = self.folder.path / "stages" / stage.name
        record_path = folder / "record.json"
        if record_path.is_file():
            _, state = checkpoint.load(next((folder / "end").glob("step-*")))
            self._adopt(stage, state)
            self.records[stage.name] = json.loads(record_path.read_text(encoding="utf-8"))
            return
        if self.interruption.asked:
            raise Interrupted(f"interrupted before stage '{stage.name}'; what came before it is saved")
        if stage.cache is not None and (found := cache.find(stage.cache)) is not None:
            state, record = found
            for name, module in stage.models.items():
                module.load_state_dict(state[name])
                module.to(self.accelerator.device)
            self.records[stage.name] = {**record, "reused": True}
            self._finish(stage, folder, {"models": state, "method": {}, "optimizers": {}}, self.records[stage.name])
            self.listener.note(f"stage '{stage.name}' is reused: the same training was done before")
            return
        self.folder.event("stage", name=stage.name)
        self._train(stage, folder)

    def _train(self, stage: Train, folder: Path) -> None:
        earlier = None
        if stage.continues is not None:
            _, earlier = checkpoint.load(next((self.folder.path / "stages" / stage.continues / "end").glob("step-*")))
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
        )
        record = trainer.run()
        record["peak_memory"] = peak_memory(self.accelerator.device)
        state = trainer.state()
        self.records[stage.name] = record
        self._finish(stage, folder, state, record)
        for epoch in record["history"]:
            self.folder.event("epoch", **epoch)
        if stage.cache is not None and self.accelerator.is_main_process and record["stopped"] is None:
            cache.keep(stage.cache, state["models"], record)

    def _cached(self) -> frozenset[str]:
        return frozenset(
            name for name, s in self.recipe.slots.items() if isinstance(s, Spec) and s.extras.get("cache")
        )

    def _adopt(self, stage: Train, state: Mapping[str, Any]) -> None:
        for name, weights in state["models"].items():
            stage.models[name].load_state_dict(weights)
        for module in stage.models.values():
            module.to(self.accelerator.device)
        if state["method"]:
            stage.method.load_state_dict(state["method"], strict=False)

    def _finish(self, stage: Train, folder: Path, state: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        if self.accelerator.is_main_process:
            checkpoint.save(folder / "end", 0, state, keep=1)
            atomic_write(folder / "record.json", json.dumps(record))
        self.accelerator.wait_for_everyone()

    # ------------------------------------------------------------------ the whole

    def preflight(self) -> None:
        """Build everything once and throw it away, so that a mistake is found before anything is trained.

        Raises:
            InputError: Weights, taps or shapes do not fit.
        """
        slots = {n: s for n, s in self.recipe.slots.items() if isinstance(s, Spec) and s.kind == "model"}
        if self._cached() and self.augment:
            raise InputError(
                f"{', '.join(sorted(self._cached()))}.cache: what a model makes of a sample can only be kept while the sample stays "
                "the same, and data.augment changes it every epoch; leave out one of the two"
            )
        modules: dict[str, nn.Module] = {}
        for slot, spec in slots.items():
            reseed(self.recipe.seed, slot, "preflight")
            modules[slot] = spec.build(self.splits.info)
            if isinstance(weights := spec.extras.get("weights"), str | Path):
                load_weights(modules[slot], weights, trust_pickle=trusts_pickle())
            freeze(modules[slot], spec.extras.get("freeze") or ())
        example = apply(self.splits.train.fetch(range(min(4, len(self.splits.train)))), self.augment)
        pairs = [(self.recipe.method, self.recipe.also), *((s.method, s.also) for s in self.recipe.stages)]
        for spec, also in dict.fromkeys(pairs):
            room = Room(modules, self.splits.info, example, [n for n in modules if n == "student"])
            for name in modules:
                room.look(name)
            self.method(spec, also).setup(room)

    def sources(self) -> None:
        """Bring every model slot that only teaches to its knowledge, before anything else is spent."""
        trained = {"student"}
        entry = registry().get("method", self.recipe.method.name)
        for slot, kind in entry.slots.items():
            if kind.rstrip("?*") == "model" and slot not in trained and slot in self.recipe.slots:
                self.source(slot)

    def transfer(self) -> Method:
        """Do the method's stages; the method, once they are done."""
        method = self.method(self.recipe.method, self.recipe.also)
        for stage in method.stages(self):
            stage = replace(stage, remembered=stage.remembered | self._cached())
            own = stage if stage.callbacks else replace(stage, callbacks=[spec.build() for spec in self.recipe.callbacks])
            self.execute(own)
        return method

    def baseline(self) -> nn.Module | None:
        """The student's twin, trained as long on the same batches from the same start, on labels alone."""
        if not self.recipe.baseline or "student" not in self.recipe.slots:
            return None
        if not registry().load("method", self.recipe.method.name).compared:
            return None
        spec = self.recipe.slots["student"]
        twin = self._build("student", spec, 0) if not isinstance(spec.extras.get("weights"), Mapping) else None
        if twin is None:
            twin = self.models.get("before") or self.source("student")
        epochs = sum(stage.train.epochs for stage in self.recipe.stages) or self.recipe.train.epochs
        settings = replace(self.recipe.train, epochs=epochs)
        self._train_on_labels(BASELINE, "student", twin, spec, settings, stream="data", callbacks=True)
        return twin

    def seed_of(self, *place: str | int) -> int:
        """A seed for a place in this run."""
        return derive(self.recipe.seed, *place)


def peak_memory(device: torch.device) -> float:
    """Largest memory held so far, in bytes: of the GPU where there is one, of the process otherwise."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    scale = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale)
