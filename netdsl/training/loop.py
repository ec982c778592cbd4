"""The trainer: epochs, validation, schedule, early stopping, checkpoints.

Everything that decides the weights is a function of the recipe, the data and the state in the checkpoint, so a run
that was killed and resumed ends with the same bits as one that was not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import tee
from math import isfinite
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from netdsl.diagnostics import DiagnosticError, Note, error
from netdsl.ir.recipe import Recipe
from netdsl.ir.types import NDArrayAny
from netdsl.training import checkpoint as files
from netdsl.training.changes import changes, same_optimizer, settings_of
from netdsl.training.checkpoint import Progress
from netdsl.training.data import Dataset
from netdsl.training.data.faults import fault
from netdsl.training.engines.base import Engine, Phase, Step, StepResult
from netdsl.training.evaluation import Evaluation, Interrupted, evaluate, finite
from netdsl.training.freezing import check_patterns, trained_since
from netdsl.training.loader import Batch, Loader, batch_bounds, check_batches
from netdsl.training.metrics import Accumulator
from netdsl.training.progress import Display, Numbers, Position, Silent, listed
from netdsl.training.run_folder import RunFolder
from netdsl.training.schedule import Run, make_schedule
from netdsl.training.watch import Interrupts, Stopper, mode_of

SAVE_EVERY = 600.0  # seconds between two checkpoints within an epoch


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `record` is the last line of metrics.jsonl; `best_epoch` counts from 1, 0: there is none."""

    epochs: int
    interrupted: bool
    stopped_early: bool
    record: Mapping[str, Any]
    best_epoch: int


def step_seed(seed: int, number: int) -> int:
    """The seed of a training step, 0 … 2³¹ - 1: SplitMix64 (Steele et al. 2014) of the run's seed and the step's
    number."""
    mask = 2**64 - 1
    z = (seed * 0xD1342543DE82EF95 + (number + 1) * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) >> 33


class Trainer:
    """One run of a recipe. `minimum_last`: the fewest items that a batch may have (2 with a batch norm).

    Raises DiagnosticError where recipe and data cannot go together.
    """

    def __init__(
        self,
        recipe: Recipe,
        engine: Engine,
        train: Dataset,
        validation: Dataset | None = None,
        *,
        checkpoint: Path,
        folder: RunFolder | None = None,
        display: Display | None = None,
        minimum_last: int = 1,
        save_every: float = SAVE_EVERY,
    ) -> None:
        self.recipe, self.engine, self.train, self.validation = recipe, engine, train, validation
        self.checkpoint, self.folder, self.display = checkpoint, folder, display or Silent()
        check_batches(train, recipe.batch, minimum_last)
        check_patterns(recipe, engine.weights)
        self._minimum_last, self._save_every = minimum_last, save_every
        self._bounds = batch_bounds(len(train), recipe.batch, minimum_last)
        steps = -(-len(self._bounds) // recipe.accumulate)
        watched = recipe.schedule.arguments.get("monitor", "loss")
        mode = mode_of(recipe, watched, recipe.schedule.arguments.get("mode"))
        self._watched = watched
        self.schedule = make_schedule(recipe.schedule, recipe.optimizer.lr, Run(recipe.epochs, steps), mode)
        self.stopper = Stopper(recipe)
        settings = settings_of(recipe)
        self.progress = Progress(seed=recipe.seed, batches=len(self._bounds), items=len(train), settings=settings)
        self._trained = dict.fromkeys(engine.trainable, 0)
        self._sums: Mapping[str, NDArrayAny] = {}
        self._record: dict[str, Any] = {}
        self._saved_at = monotonic()

    def resume(self) -> None:
        """Goes on from the checkpoint. Raises OSError where there is none, DiagnosticError where it does not fit."""
        saved = files.load(self.checkpoint, self.engine.weights)
        for note in changes(saved, self.progress, self.engine.name):
            self.display.message(note)
        old = saved.progress
        whole = (old.seed, old.batches, old.items) == (self.progress.seed, self.progress.batches, self.progress.items)
        self.progress.epoch, self.progress.step = old.epoch, old.step
        self.progress.batch = old.batch if whole else 0
        self._sums = saved.sums if whole else {}
        if old.schedule:
            self.schedule.load(old.schedule)
        self.stopper.load(old.stopper)
        self._freeze()
        moments = same_optimizer(old, self.progress)
        self.engine.load({n: a for n, a in saved.state.items() if moments or not n.startswith(files.OPTIMIZER)})
        if self.progress.epoch >= self.recipe.epochs:
            self.display.message(
                f"{self.checkpoint} holds {self.progress.epoch} epochs of {self.recipe.epochs}: there is nothing to "
                "train; --epochs with a larger number goes on"
            )

    def run(self) -> Outcome:
        """Trains until the last epoch, early stopping or Ctrl-C; the checkpoint then holds the last state."""
        with Interrupts() as interrupts:
            try:
                while self.progress.epoch < self.recipe.epochs and not self.stopper.stop:
                    if not self._epoch(interrupts):
                        break
                interrupted = interrupts.asked and self.progress.epoch < self.recipe.epochs
                if interrupted:
                    self._say_how_to_resume()
            finally:
                self.display.close()
        if self.folder:
            with self._writing(self.folder):
                self.folder.draw()
        early = self.stopper.stop and self.progress.epoch < self.recipe.epochs
        return Outcome(self.progress.epoch, interrupted, early, self._record, self.stopper.best_epoch)

    def _epoch(self, interrupts: Interrupts) -> bool:
        """One epoch, or the rest of one. False where it was interrupted."""
        started = monotonic()
        self._freeze()
        sums = Accumulator(self.recipe.metrics)
        if self._sums:
            sums.load(self._sums)
            self._sums = {}
        self.display.begin(self._position(sums))
        if not self._train(sums, interrupts):
            return self._interrupted(sums)
        try:
            evaluation = self._validate(interrupts)
        except Interrupted:
            return self._interrupted(sums)
        self._finish(sums, evaluation, monotonic() - started)
        return not interrupts.asked

    def _freeze(self) -> None:
        trained = trained_since(self.recipe, self.engine.trainable, self.progress.epoch)
        if trained != self._trained:
            self.engine.rebuild(trained)
            self._trained = trained

    def _train(self, sums: Accumulator, interrupts: Interrupts) -> bool:
        """The epoch's batches from where it stands. False where it was interrupted."""
        progress, recipe = self.progress, self.recipe
        loader = Loader(
            self.train,
            recipe.batch,
            seed=recipe.seed,
            epoch=progress.epoch,
            start=progress.batch,
            minimum_last=self._minimum_last,
        )
        with loader:
            batches = iter(loader)
            while progress.batch < progress.batches:
                given, reported = tee(self._until_pause(batches, interrupts))
                for result, batch in zip(self.engine.steps(map(self._step, given)), reported, strict=False):
                    self._count(batch, result, sums)
                    self.display.batch(self._position(sums))
                if progress.batch < progress.batches:
                    if interrupts.asked:
                        return False
                    self._save(sums.state(), self._finite_state())
        return True

    def _until_pause(self, batches: Iterator[Batch], interrupts: Interrupts) -> Iterator[Batch]:
        """The batches until the end of a group at which the engine's state is wanted. Engines read them in advance."""
        for batch in batches:
            yield batch
            due = interrupts.asked or monotonic() - self._saved_at >= self._save_every
            if due and (batch.number + 1) % self.recipe.accumulate == 0:
                return

    def _step(self, batch: Batch) -> Step:
        """What the engine is asked to do for a batch of this epoch, one that it counts or a later one."""
        progress, accumulate = self.progress, self.recipe.accumulate
        updates = batch.number // accumulate - progress.batch // accumulate
        phase, share = self._phase(batch)
        seed = step_seed(self.recipe.seed, progress.epoch * progress.batches + batch.number)
        return Step(batch.arrays, self.schedule.rate(progress.step + updates), seed, phase, share)

    def _count(self, batch: Batch, result: StepResult, sums: Accumulator) -> None:
        if not isfinite(result.loss):
            where = self.engine.explain_overflow(batch.arrays)
            what = f"the loss became {_called(result.loss)} in batch {batch.number + 1}"
            raise self._diverged(what, self.progress.step + 1, where)
        sums.add(result.loss, result.statistics, batch.items)
        self.progress.batch += 1
        self.progress.step += self._phase(batch)[0] in ("only", "last")

    def _phase(self, batch: Batch) -> tuple[Phase, float]:
        """A batch's place in its group, and its share of the group's items."""
        first = batch.number - batch.number % self.recipe.accumulate
        group = self._bounds[first : first + self.recipe.accumulate]
        if len(group) == 1:
            return "only", 1.0
        share = batch.items / (group[-1][1] - group[0][0])
        if batch.number == first:
            return "first", share
        return "last" if batch.number == first + len(group) - 1 else "middle", share

    def _validate(self, interrupts: Interrupts) -> Evaluation | None:
        if self.validation is None:
            return None
        return evaluate(self.engine, self.validation, self.recipe.metrics, self.recipe.batch, stop=interrupts)

    def _finish(self, sums: Accumulator, evaluation: Evaluation | None, seconds: float) -> None:
        """Everything that follows from an epoch's numbers, and the checkpoint."""
        train: Numbers = {"loss": sums.loss, **sums.scalars()}
        held = evaluation.scalars() if evaluation else None
        rate = self.schedule.rate(max(self.progress.step - 1, 0))
        if held and not isfinite(held["loss"]):
            raise self._diverged(f"the validation loss became {_called(held['loss'])}", self.progress.step)
        state = self._finite_state()
        position = self._position(sums)
        self.progress.epoch, self.progress.batch = self.progress.epoch + 1, 0
        values = held or train
        best = self.stopper.see(values, self.progress.epoch)
        self.schedule.epoch_end(values[self._watched])
        text = listed(train) + (f", {listed(held, 'val ')}" if held else "") + f", rate {rate:.3g}"
        self.display.end(position, text + (", best" if best and held else ""))
        self._record = {"epoch": self.progress.epoch, "step": self.progress.step, "rate": rate}
        self._record |= {"seconds": round(seconds, 3), "train": finite(train)}
        if held:
            self._record["val"] = finite(held)
        self._keep(evaluation, state if best else None)
        self._save({}, state)

    def _keep(self, evaluation: Evaluation | None, best: Mapping[str, NDArrayAny] | None) -> None:
        """The run folder's part; before the checkpoint, which then never knows of an epoch without its line."""
        if not self.folder:
            return
        with self._writing(self.folder):
            self.folder.epoch(self._record)
            if evaluation:
                self.folder.evaluation(evaluation.as_json())
                if best is not None:
                    files.save_weights(self.folder.best, best, self.engine.weights)

    @contextmanager
    def _writing(self, folder: RunFolder) -> Iterator[None]:
        """Says of a full disk how much of the run is kept."""
        try:
            yield
        except OSError as reason:
            held = self.checkpoint.exists()
            kept = f"{self.checkpoint} holds what was saved before" if held else "there is no checkpoint yet"
            what = f"the run's folder could not be written: {reason.strerror or reason}; {kept}"
            raise fault("run-not-written", what, folder.path) from None

    def _save(self, sums: Mapping[str, NDArrayAny], state: Mapping[str, NDArrayAny]) -> None:
        self.progress.schedule, self.progress.stopper = self.schedule.state, self.stopper.state
        files.save(self.checkpoint, state, sums, self.progress, self.engine.weights, self.engine.name)
        self._saved_at = monotonic()

    def _finite_state(self) -> Mapping[str, NDArrayAny]:
        """The engine's state. Raises DiagnosticError where a weight is not finite: that is worth no checkpoint."""
        state = self.engine.state()
        for name in self.engine.weights:
            if not np.isfinite(state[name]).all():
                became = "NaN" if np.isnan(state[name]).any() else "infinite"
                raise self._diverged(f"{name} became {became}", self.progress.step)
        return state

    def _interrupted(self, sums: Accumulator) -> bool:
        self._save(sums.state(), self._finite_state())
        return False

    def _say_how_to_resume(self) -> None:
        epoch, batch = self.progress.epoch + 1, self.progress.batch
        self.display.message(
            f"stopped in epoch {epoch} after {batch} of {self.progress.batches} batches; {self.checkpoint} holds "
            "everything: the same command with --resume goes on from here"
        )

    def _diverged(self, what: str, update: int, where: str = "") -> DiagnosticError:
        """`update` counts from 1; `where` says in which layer it began."""
        rate = self.schedule.rate(max(update - 1, 0))
        notes = [Note(f"it began in {where}")] if where else []
        kept = f"{self.checkpoint} is as it was before" if self.checkpoint.exists() else "no checkpoint was written"
        helps = [f"lower the learning rate, which was {rate:.3g}"]
        if self.recipe.clip_norm is None:
            helps.append("or clip the gradients: clip_norm = 1.0")
        message = f"{what} (epoch {self.progress.epoch + 1}, update {update}); training stops, {kept}"
        span = self.recipe.place.span if self.recipe.place else None
        path = self.recipe.place.path if self.recipe.place else str(self.checkpoint)
        return DiagnosticError([error("loss-not-finite", message, span, path=path, notes=notes, help=helps)])

    def _position(self, sums: Accumulator) -> Position:
        progress = self.progress
        return Position(
            min(progress.epoch + 1, self.recipe.epochs),
            self.recipe.epochs,
            sums.items,
            progress.items,
            self.schedule.rate(progress.step),
            lambda: {"loss": sums.loss, **sums.running()},
        )


def _called(number: float) -> str:
    return "NaN" if number != number else "infinite"
