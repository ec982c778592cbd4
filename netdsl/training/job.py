"""A recipe of a file, ready to be trained and evaluated: what the command line and the Python API share."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from netdsl.diagnostics import DiagnosticError, error
from netdsl.elaborate import ElaboratedRecipe, elaborate_recipe
from netdsl.ir.graph import Graph
from netdsl.ir.recipe import Recipe
from netdsl.onnx.export import OPSET
from netdsl.ops.batch_norm import BatchNorm
from netdsl.ops.switchable_norm import SwitchableNorm
from netdsl.source import SourceFile
from netdsl.training.artifacts import write_artifacts
from netdsl.training.checkpoint import versions
from netdsl.training.data import Dataset, Wanted, open_data, split
from netdsl.training.engines.base import Engine
from netdsl.training.engines.onnxruntime_training.artefacts import write_artefacts
from netdsl.training.engines.onnxruntime_training.engine import OrtTrainingEngine
from netdsl.training.engines.standard import StandardEngine
from netdsl.training.evaluation import Evaluation, evaluate
from netdsl.training.initial import initial_weights, saved_weights
from netdsl.training.loader import check_batches
from netdsl.training.loop import Outcome, Trainer
from netdsl.training.models import RecipeModels
from netdsl.training.progress import Display, Silent
from netdsl.training.run_folder import RunFolder

ENGINES = ("standard", "onnxruntime-training")


@dataclass(frozen=True)
class Machine:
    """Where to train: the engine's name, "cpu", "cuda" or "auto", and the threads of one operator."""

    engine: str = "standard"
    device: str = "auto"
    threads: int | None = None


@dataclass(frozen=True)
class Job:
    """A recipe with its graph. `columns` are those of a table, for each input and target."""

    source: SourceFile
    made: ElaboratedRecipe
    recipe: Recipe
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def graph(self) -> Graph:
        return self.made.graph

    @property
    def folder(self) -> Path:
        """That of the `.net` file, to which its paths are relative."""
        return Path(self.source.path).parent

    def open(self, data: str | Path, *, test: bool = False, vocabulary: Sequence[str] = ()) -> Dataset:
        """A data set that fits the recipe; `test`: that part of one that comes as two files. Raises DiagnosticError,
        OSError."""
        self._check_batch_axis()
        wanted = Wanted(
            {v.name: v.type for v in self.graph.inputs},
            frozenset(self.recipe.targets),
            self.columns,
            "test" if test else "train",
            self.recipe.classes,
            self.recipe.ignore,
            vocabulary=vocabulary,
        )
        return open_data(data, wanted)

    def _check_batch_axis(self) -> None:
        for value in self.graph.inputs:
            if value.rank and isinstance(value.shape[0], int):
                message = f"'{value.name}' is {value.type}: training needs its first axis, the batch, to be a symbol"
                place = self.recipe.place
                span, path = (place.span, place.path) if place else (None, self.source.path)
                help = f"write N for {value.shape[0]}, and batch = {value.shape[0]} in the recipe"
                raise DiagnosticError([error("fixed-batch", message, span, path=path, help=help)])

    def engine(self, machine: Machine, weights: Mapping[str, Any] | None = None) -> Engine:
        """An engine that begins with those weights, by default the recipe's own. Raises EnvironmentLack."""
        if weights is None:
            weights = initial_weights(self.recipe, self.graph, self.folder)
        kind = OrtTrainingEngine if machine.engine == "onnxruntime-training" else StandardEngine
        return kind(self.recipe, self.graph, weights, device=machine.device, threads=machine.threads)


def make_job(
    source: SourceFile,
    *,
    label: str | None = None,
    network: str | None = None,
    settings: Mapping[str, object] | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    seed: int | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
) -> Job:
    """The recipe of a file; what is given here overrides it. Raises DiagnosticError and UsageError."""
    made = elaborate_recipe(source, label=label, network=network, settings=settings or {})
    own = made.recipe
    recipe = replace(
        own,
        epochs=own.epochs if epochs is None else epochs,
        batch=own.batch if batch is None else batch,
        seed=own.seed if seed is None else seed,
    )
    return Job(source, made, recipe, columns or {})


def train_job(
    job: Job,
    data: str | Path,
    validation: str | Path | float | None,
    checkpoint: Path,
    machine: Machine,
    *,
    resume: bool = False,
    display: Display | None = None,
) -> Outcome:
    """Trains, and writes the checkpoint and its run folder. `validation`: data, or the share of `data` to hold out.

    `resume` goes on from the checkpoint, if there is one. Raises DiagnosticError, OSError, EnvironmentLack.
    """
    display = display or Silent()
    train, held = _data(job, data, validation)
    resumed = resume and checkpoint.exists()
    if resume and not resumed:
        display.message(f"there is no {checkpoint} yet: the run begins")
    if checkpoint.exists() and not resume:
        display.message(f"note: {checkpoint} is there already, and will be replaced; --resume would go on from it")
    engine = job.engine(machine)
    try:
        if isinstance(engine, StandardEngine):
            engine.prepare()
        check_batches(train, job.recipe.batch, minimum_batch(job.graph))  # before there is a folder
        folder = RunFolder.beside(checkpoint)
        trainer = Trainer(
            job.recipe,
            engine,
            train,
            held,
            checkpoint=checkpoint,
            folder=folder,
            display=display,
            minimum_last=minimum_batch(job.graph),
        )
        about = {"data": str(data), "validation": validation, **_settings(job, machine)}
        with folder.reserved():
            if resumed:
                trainer.resume()
            folder.begin(job.source.text, about, epochs_done=trainer.progress.epoch)
            folder.describe(train)
            return trainer.run()
    finally:
        display.close()
        engine.close()


def _data(job: Job, data: str | Path, validation: str | Path | float | None) -> tuple[Dataset, Dataset | None]:
    whole = job.open(data)
    if validation is None:
        return whole, None
    if isinstance(validation, float):
        return split(whole, validation, job.recipe.seed)
    return whole, job.open(validation, test=True, vocabulary=whole.vocabulary)


def _settings(job: Job, machine: Machine) -> dict[str, Any]:
    """What decides a run, for its folder."""
    recipe = job.recipe
    return {
        "network": recipe.network,
        "recipe": recipe.label,
        "epochs": recipe.epochs,
        "batch": recipe.batch,
        "seed": recipe.seed,
        "optimizer": {"name": recipe.optimizer.name, **recipe.optimizer.arguments},
        "schedule": {"name": recipe.schedule.name, "warmup": recipe.schedule.warmup, **recipe.schedule.arguments},
        "clip_norm": recipe.clip_norm,
        "accumulate": recipe.accumulate,
        "precision": recipe.precision,
        "engine": machine.engine,
        "device": machine.device,
        "threads": machine.threads,
        "versions": versions(),
    }


def evaluate_job(
    job: Job,
    data: str | Path,
    weights: Path,
    machine: Machine,
    *,
    seen: Callable[[int], None] = lambda items: None,
) -> Evaluation:
    """The recipe's loss and metrics over a data set, with the weights of a checkpoint. Raises DiagnosticError, OSError,
    EnvironmentLack."""
    engine = job.engine(machine, saved_weights(job.graph, weights))
    dataset = job.open(data, test=True, vocabulary=_vocabulary(weights))
    try:
        return evaluate(engine, dataset, job.recipe.metrics, job.recipe.batch, seen=seen)
    finally:
        engine.close()


def export_job(
    job: Job, folder: Path, *, weights: Path | None = None, opset: int = OPSET, engine: str = "standard"
) -> list[Path]:
    """Writes the recipe's models with their initial state, drawn or of a checkpoint, and their documentation; or the
    artefacts of another engine.

    Raises DiagnosticError, OSError, EnvironmentLack.
    """
    arrays = saved_weights(job.graph, weights) if weights else initial_weights(job.recipe, job.graph, job.folder)
    if engine != "standard":
        return write_artefacts(job.recipe, job.graph, arrays, folder)
    return write_artifacts(RecipeModels(job.recipe, job.graph, opset=opset), arrays, folder)


def _vocabulary(weights: Path) -> Sequence[str]:
    """The characters of the text that was trained on, where the checkpoint's run is beside it."""
    path = RunFolder.beside(weights).path / "vocabulary.json"
    try:
        return tuple(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError):
        return ()


def minimum_batch(graph: Graph) -> int:
    """The fewest items of a batch: a batch norm that sees one number per item and channel needs two."""
    for node in graph.nodes:
        if isinstance(node.op, BatchNorm | SwitchableNorm) and not node.op.frozen:
            sizes = node.inputs[0].shape[2:]
            if all(size == 1 for size in sizes):
                return 2
    return 1
