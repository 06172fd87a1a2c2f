"""The loop: one stage of kind ``train``, from wherever it was left to its end."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from tutelage.data.batch import Batch
from tutelage.data.loader import Augmentation, Loader, apply
from tutelage.data.splits import Examples, Splits
from tutelage.engine import checkpoint
from tutelage.engine.agreement import agreed
from tutelage.engine.callbacks import Callback
from tutelage.engine.faults import find_fault, record_fault
from tutelage.engine.listening import Listener
from tutelage.engine.looking import scores_of
from tutelage.engine.meter import Meter, Noted
from tutelage.engine.method import Answering, Step, Train
from tutelage.engine.optimization import Mover, average_gradients, bare, divide, movers, total_norm
from tutelage.engine.pools import Pool
from tutelage.engine.ramps import Ramps
from tutelage.engine.randomness import derive, reseed
from tutelage.engine.replicas import Replicas
from tutelage.engine.saving import go_on_from, restore, state_of
from tutelage.engine.setting_up import set_up
from tutelage.engine.shards import sharded
from tutelage.engine.stopping import Interrupted, Interruption
from tutelage.engine.storing import asked_before
from tutelage.models.follower import Follower
from tutelage.models.participant import Participant

# Reading a number off a GPU waits for it; off a CPU it costs nothing.
_CHECK_EVERY = {"cpu": 1}
# Asking the other processes whether to save or leave costs a message, so it is done every so many steps.
_ASK_EVERY = 10


class Trainer:
    """Runs a stage.

    Args:
        stage: What to train, on what, how.
        splits: The data.
        augment: Augmentations, applied after collation on the models' device.
        accelerator: Devices, precision and processes.
        seed: Seed of the run.
        folder: The stage's folder in the run folder.
        listener: Hears of progress.
        interruption: Says when to save and leave.
        workers: Processes that fetch data.
        earlier: End state of the stage that this one continues.
        past_steps: Steps of the stages before, for trackers, whose step may not go back.
    """

    def __init__(
        self,
        stage: Train,
        *,
        splits: Splits,
        augment: Sequence[Augmentation],
        accelerator: Accelerator,
        seed: int,
        folder: Path,
        listener: Listener,
        interruption: Interruption,
        workers: int = 0,
        earlier: Mapping[str, Any] | None = None,
        past_steps: int = 0,
    ) -> None:
        self.stage, self.settings, self.method = stage, stage.settings, stage.method
        self.splits, self.augment, self.accelerator = splits, tuple(augment), accelerator
        self.seed, self.folder, self.listener, self.interruption = seed, folder, listener, interruption
        self.device = accelerator.device
        self.validation = splits.validation
        self.callbacks = [c for c in stage.callbacks if isinstance(c, Callback)]
        self.examples = splits.train if stage.examples is None else stage.examples
        self.loader = self._loader(self.examples, workers, stage.stream)
        self.pools = {name: Pool(self._loader(pool, 0, stage.stream, name)) for name, pool in stage.pools.items()}
        self.total = self.settings.epochs * self.loader.steps_per_epoch
        self.step = self.epoch = self.position = 0
        # Epochs that earlier stages of the same sequence have done: the order of the data goes on from there.
        self.past_epochs = 0
        self.past_steps = past_steps
        self.stopped: str | None = None
        self.history: list[dict[str, Any]] = []
        self.seconds, self.cpu_seconds = 0.0, 0.0
        self._saved_at = time.perf_counter()
        self._casting = nullcontext if accelerator.mixed_precision == "no" else accelerator.autocast
        self._build(earlier)

    # ------------------------------------------------------------------ setting up

    def _loader(self, examples: Examples, workers: int, *stream: str) -> Loader:
        return Loader(
            examples,
            batch_size=self.settings.batch_size,
            seed=derive(self.seed, *stream),
            shuffle=True,
            workers=workers,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            views=self.stage.views,
            pin_memory=self.device.type == "cuda",
        )

    def _build(self, earlier: Mapping[str, Any] | None) -> None:
        for module in self.stage.models.values():
            module.to(self.device)
        example = self.examples.fetch(range(min(len(self.examples), 4))).to(self.device)
        room = set_up(self.stage, self.splits.info, apply(example, self.augment), self.seed, self.examples)
        self.method.to(self.device)
        self.trainable = room.trainable
        self.participants: dict[str, Answering] = {}
        for name, module in self.stage.models.items():
            trained = name in self.trainable
            one = Participant(
                name,
                module,
                trainable=trained,
                taps=room.taps(name),
                gradients=trained or name in room.differentiated,
                example=example.inputs,
            )
            self.participants[name] = one if trained else asked_before(self, one)
        self.followers = {n: m for n, m in self.stage.models.items() if isinstance(m, Follower)}
        for follower in self.followers.values():
            follower.begin(self.subject)
        modules: dict[str, nn.Module] = {**self.stage.models, "method": self.method}
        self.movers = movers(self.method.turns(), modules, self.settings)
        self.schedule = self.settings.schedule.build(self.total)
        self.ramps = Ramps(self.method)
        self.meter = Meter()
        self._prepare()
        if earlier is not None:
            go_on_from(self, earlier)
        self.check_every = _CHECK_EVERY.get(self.device.type, 20)

    def _prepare(self) -> None:
        """Let Accelerate wrap what is trained; captures stay on the models inside."""
        modules = [self.stage.models[name] for name in self.trainable]
        prepared = self.accelerator.prepare(*modules, *(m.optimizer for m in self.movers))
        prepared = prepared if isinstance(prepared, tuple) else (prepared,)
        wrapped = dict(zip(self.trainable, prepared, strict=False))
        for move, optimizer in zip(self.movers, prepared[len(modules) :], strict=True):
            move.optimizer = bare(self.accelerator, optimizer)
        if self.settings.compile:
            wrapped = {name: torch.compile(model) for name, model in wrapped.items()}
        self.replicas = Replicas(self.accelerator, wrapped, sharded=sharded(self.accelerator))
        for name, one in self.participants.items():
            if name in wrapped:
                self.participant(name).wrapped = self.replicas.callable(name)
            elif self.settings.compile and isinstance(one, Participant):
                one.wrapped = torch.compile(one.wrapped)

    @property
    def subject(self) -> nn.Module:
        """The model that validation and weight averaging look at."""
        return self.stage.models[self.stage.validated]

    def participant(self, name: str) -> Participant:
        """One that runs, and is not only remembered."""
        found = self.participants[name]
        assert isinstance(found, Participant)
        return found

    def trained(self, move: Mover) -> list[nn.Module]:
        """The modules that an optimiser moves."""
        return [self._module(name) for name in move.turn.trains]

    def _module(self, name: str) -> nn.Module:
        return self.method if name == "method" else self.stage.models[name]

    # ------------------------------------------------------------------ running

    def run(self) -> dict[str, Any]:
        """Train to the end, and say what happened.

        Returns:
            ``history`` (a record an epoch), ``steps``, ``seconds``, ``cpu_seconds``, ``stopped`` (why it ended early).

        Raises:
            Interrupted: It was asked to leave; the state is saved.
            RunError: A loss or gradient was not finite; the state is saved.
        """
        restore(self)
        for callback in self.callbacks:
            callback.started(self)
        self.listener.begin(self.stage.name, self.total, self.step)
        self._began = time.perf_counter() - self.seconds, time.process_time() - self.cpu_seconds
        while self.epoch < self.settings.epochs and self.stopped is None:
            self._epoch()
        for callback in self.callbacks:
            callback.finished(self)
        self._clock()
        self.listener.end(self.stage.name)
        return {
            "history": self.history,
            "steps": self.step,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "stopped": self.stopped,
        }

    def close(self) -> None:
        """Leave the models as plain models: without taps, wrappers or casts, and as trainable as they were."""
        for participant in self.participants.values():
            participant.close()
            if isinstance(participant, Participant):
                participant.wrapped = participant.module
            # The cast to half precision was put into the model itself.
            self.accelerator.unwrap_model(participant.module, keep_fp32_wrapper=False)
        # Accelerate looks for garbage in everything that was ever imported; on a CPU there is none worth the time.
        if self.device.type == "cpu":
            gc.freeze()
        self.accelerator.free_memory()
        gc.unfreeze()

    def _clock(self) -> None:
        wall, cpu = self._began
        self.seconds, self.cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu

    def batches(self, epoch: int) -> Iterator[Batch]:
        """This process's augmented batches of an epoch of the stage, on the models' device."""
        for batch in self.loader.epoch(self.past_epochs + epoch):
            yield apply(batch.to(self.device), self.augment)

    def _epoch(self) -> None:
        for participant in self.participants.values():
            participant.mode(True)
        for batch in self.loader.epoch(self.past_epochs + self.epoch, self.position):
            self._step(apply(batch.to(self.device), self.augment))
            if self.stopped is not None:
                break
            if self.position < self.loader.steps_per_epoch:
                self._maybe_save()
        self.method.epoch_ended(self.epoch)
        for follower in self.followers.values():
            follower.epoch_ended(self.subject)
        self._flush()
        self._validate()
        self.epoch, self.position = self.epoch + 1, 0
        if self.epoch < self.settings.epochs and self.stopped is None:
            self._maybe_save()

    def _step(self, batch: Batch) -> None:
        reseed(self.seed, self.stage.name, self.step, self.accelerator.process_index)
        progress = self.step / self.total
        self.ramps.set(progress)
        step = Step(batch, self.participants, self.step, self.epoch, progress, pools=self._pooled())
        self.method.before_step(step)
        rate = self.schedule(self.step)
        parts = step.parts(self.settings.accumulate)
        for move in self.movers:
            if move.turn.when is not None and not move.turn.when(step):
                continue
            move.set_rate(rate)
            for repeat in range(move.turn.times):
                self._turn(move, [replace(part, repeat=repeat) for part in parts] if repeat else parts)
                self._move(move, step)
        self.method.after_step(step)
        for follower in self.followers.values():
            follower.stepped(self.subject)
        self.step, self.position = self.step + 1, self.position + 1
        for callback in self.callbacks:
            callback.stepped(self, step)
        if self.step % self.check_every == 0:
            self._flush()

    def _pooled(self) -> dict[str, Batch]:
        """A batch of each pool, augmented like the data."""
        place = (self.past_epochs + self.epoch) * self.loader.steps_per_epoch + self.position
        return {n: apply(pool.batch(place).to(self.device), self.augment) for n, pool in self.pools.items()}

    def _turn(self, move: Mover, parts: Sequence[Step]) -> None:
        """Gradients of a turn's loss over all parts."""
        # A mean over a part counts for as much as it holds of the whole step's samples, over all processes.
        whole, alone = self.loader.global_size(self.position), len(parts) == 1 and self.accelerator.num_processes == 1
        counted: int | None = None
        for index, part in enumerate(parts):
            share = len(part.batch) * self.accelerator.num_processes / whole
            with self.replicas.part(move.turn, last=index == len(parts) - 1):
                with self._casting():
                    losses = move.turn.loss(part)
                    total = losses.total()
                if losses.count is not None:
                    counted = (counted or 0) + losses.count
                    share = 1.0 if alone else float(losses.count)
                reached = self.replicas.reached(move.turn, total)
                self.accelerator.backward(reached if share == 1.0 else share * reached)
            count = len(part.batch) if losses.count is None else losses.count
            self.meter.add(move.turn.name, self.step, losses.means(), total, count)
        if counted is not None and not alone:
            divide(self.accelerator, move.parameters(), counted)

    def _move(self, move: Mover, step: Step) -> None:
        if "method" in move.turn.trains:
            average_gradients(self.accelerator, self.method)
        self.accelerator.unscale_gradients(move.optimizer)
        self.method.after_backward(step, move.turn)
        parameters = move.parameters()
        norm = total_norm(parameters)
        self.meter.gradient(move.turn.name, self.step, norm)
        # On a CPU nothing has moved yet when a fault is found, so that what is saved is the state before the fault.
        # Clipping comes after, for it would spread what is not finite over all gradients.
        if self.check_every == 1:
            self._find_fault(step, move)
        if self.settings.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.settings.clip_norm, norm)
        move.optimizer.step()
        # Of all, for a turn's loss may have reached models that are another turn's to move.
        for every in self.movers:
            every.clear()

    def _find_fault(self, step: Step | None, move: Mover | None) -> None:
        fault = find_fault(self.meter.read(), scaled=self.settings.precision == "fp16")
        if fault is not None:
            self._fail(fault, step, move)

    def _fail(self, fault: Noted, step: Step | None, move: Mover | None) -> None:
        parameters = (
            {f"{n}.{k}": p for n in move.turn.trains for k, p in self._module(n).named_parameters()} if move else {}
        )
        debug, rank = self.folder.parent.parent / "debug", self.accelerator.process_index
        raise record_fault(
            fault,
            folder=debug / f"process-{rank}" if self.accelerator.num_processes > 1 else debug,
            stage=self.stage.name,
            epoch=self.epoch,
            batch=step.batch if step is not None else None,
            parameters=parameters,
            state=self.state(),
        )

    def _flush(self) -> None:
        if self.check_every > 1:
            self._find_fault(None, None)
        self.listener.advance(self.stage.name, self.step, self.meter.flush())

    def _validate(self) -> None:
        scores = scores_of(self) if self.validation is not None else {}
        if scores:
            self.method.validated(scores)
        record: dict[str, Any] = {
            "stage": self.stage.name,
            "epoch": self.epoch,
            "step": self.step,
            "losses": self.meter.epoch_means(),
            "rate": self.schedule(max(self.step - 1, 0)),
            "validation": scores,
        }
        self.history.append(record)
        self.accelerator.log(
            {f"{self.stage.name}/{k}": v for k, v in record["losses"].items()}
            | {f"{self.stage.name}/validation/{k}": v for k, v in scores.items()},
            step=self.past_steps + self.step,
        )
        for callback in self.callbacks:
            callback.validated(self, self.epoch, scores)

    # ------------------------------------------------------------------ stopping and saving

    def stop(self, reason: str) -> None:
        """End the stage after this step."""
        self.stopped = reason
        self.listener.note(f"stage '{self.stage.name}' ends early: {reason}")

    def agreed(self, own: bool) -> bool:
        """What the first process says: one decision for all."""
        return agreed(self.accelerator, own)

    def _maybe_save(self) -> None:
        settings = self.settings.checkpoint
        ask = self.accelerator.num_processes == 1 or self.step % _ASK_EVERY == 0
        due = settings.steps is not None and self.step % settings.steps == 0
        if not due and settings.seconds is not None and ask:
            due = self.agreed(time.perf_counter() - self._saved_at >= settings.seconds)
        leaving = ask and self.agreed(self.interruption.asked)
        if due or leaving:
            self.save()
        if leaving:
            raise Interrupted(
                f"interrupted in stage '{self.stage.name}' after step {self.step} of {self.total}; all of it is saved. "
                f"Go on with: tutelage resume {self.folder.parent.parent}"
            )

    def state(self) -> dict[str, Any]:
        """Everything that moves."""
        return state_of(self)

    def save(self) -> None:
        """Write a checkpoint of the stage."""
        self._clock()
        self._flush()
        state = self.state()
        if self.accelerator.is_main_process:
            checkpoint.save(self.folder / "checkpoints", self.step, state, keep=self.settings.checkpoint.keep)
        self._saved_at = time.perf_counter()
