"""The Python API of training: `train`, `evaluate`, `export_training`.

Apart from `netdsl.api`, so that compiling does not wait for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from netdsl import api
from netdsl.syntax.read import read_source
from netdsl.training.job import Machine, evaluate_job, export_job, make_job, train_job
from netdsl.training.progress import Display
from netdsl.training.run_folder import RunFolder

File = str | PathLike[str]


@dataclass(frozen=True, eq=False)
class Trained:
    """What `train` made.

    `checkpoint` is the `.safetensors` file, `folder` the run's, beside it. `metrics` are those of the last epoch:
    `{"epoch": 20, "step": 1020, "rate": …, "seconds": …, "train": {"loss": …, "accuracy": …}, "val": {…}}`; empty where
    no epoch was left to do. `best_epoch` counts from 1; 0: none was done.
    """

    source: str
    checkpoint: Path
    metrics: Mapping[str, Any]
    epochs: int
    best_epoch: int
    interrupted: bool
    stopped_early: bool
    network: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return RunFolder.beside(self.checkpoint).path

    @cached_property
    def model(self) -> api.Model:
        """The network, compiled with the trained weights."""
        return api.compile(self.source, network=self.network, set=self.settings, weights=self.checkpoint)


def train(
    source: File,
    *,
    data: File,
    validation: File | float | None = None,
    checkpoint: File | None = None,
    resume: bool = False,
    recipe: str | None = None,
    network: str | None = None,
    set: Mapping[str, object] | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    seed: int | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
    engine: str = "standard",
    device: str = "auto",
    threads: int | None = None,
    display: Display | None = None,
) -> Trained:
    """Trains a recipe of a `.net` file.

    `data` is an `.npz`, a folder of `.npy` files or of pictures, a `.csv` or another form that `netdsl train --help`
    lists; its arrays have the items along axis 0 and the recipe's names of inputs and targets. `validation` is the
    same, or a share of `data` to hold out by the seed. `checkpoint` is what to write (`m.net`: `m.safetensors`);
    `resume` goes on from it. `recipe` is a label, `set` overrides parameters of network and recipe; `epochs`, `batch`
    and `seed` the recipe's own. `columns` are those of a table, for each name. `display` shows progress; nothing does
    by default.

    Raises DiagnosticError where the program, the data or the checkpoint have errors, or the loss is not finite;
    UsageError for a name that the file does not have; EnvironmentLack without ONNX Runtime, the device or the engine;
    OSError for files that cannot be read or written.
    """
    job = make_job(
        read_source(fspath(source)),
        label=recipe,
        network=network,
        settings=set,
        epochs=epochs,
        batch=batch,
        seed=seed,
        columns=columns,
    )
    path = Path(checkpoint) if checkpoint is not None else Path(source).with_suffix(".safetensors")
    held = validation if isinstance(validation, float) or validation is None else fspath(validation)
    machine = Machine(engine, device, threads)
    outcome = train_job(job, fspath(data), held, path, machine, resume=resume, display=display)
    return Trained(
        fspath(source),
        path,
        outcome.record,
        outcome.epochs,
        outcome.best_epoch,
        outcome.interrupted,
        outcome.stopped_early,
        job.recipe.network,
        set or {},
    )


def evaluate(
    source: File,
    *,
    weights: File,
    data: File,
    recipe: str | None = None,
    network: str | None = None,
    set: Mapping[str, object] | None = None,
    batch: int | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> dict[str, Any]:
    """The recipe's loss and metrics over data, with a checkpoint's weights: `{"loss": …, "metrics": {"accuracy": …}}`.

    Options and errors are those of `train`.
    """
    job = make_job(
        read_source(fspath(source)), label=recipe, network=network, settings=set, batch=batch, columns=columns
    )
    return evaluate_job(job, fspath(data), Path(weights), Machine(device=device, threads=threads)).as_json()


def export_training(
    source: File,
    folder: File,
    *,
    recipe: str | None = None,
    network: str | None = None,
    set: Mapping[str, object] | None = None,
    weights: File | None = None,
    seed: int | None = None,
    opset: int = 21,
    engine: str = "standard",
) -> list[Path]:
    """Writes the recipe's training step as ONNX models, with the initial state, their documentation and two example
    programs (see `netdsl.training.artifacts`); returns the files.

    `weights` is a checkpoint to begin with; without it the weights are the recipe's. `engine="onnxruntime-training"`
    writes that engine's own artefacts, of opset 17. Errors are those of `train`.
    """
    job = make_job(read_source(fspath(source)), label=recipe, network=network, settings=set, seed=seed)
    initial = Path(weights) if weights is not None else None
    return export_job(job, Path(folder), weights=initial, opset=opset, engine=engine)
