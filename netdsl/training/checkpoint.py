"""Checkpoints of training: one `.safetensors` file with everything that a run needs to go on.

Weights stand under their own names, so that the file is an ordinary checkpoint for inference too. No weight's name
holds a slash; what else there is has one:

| names | content |
| --- | --- |
| `optimizer/…` | the optimizer's state, as the engine names it |
| `training/…` | the engine's other state: accumulated gradients, the loss scale |
| `progress/…` | sums of an epoch that was interrupted |
| metadata `netdsl` | a `Progress` as JSON, versions and the engine's name |
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from netdsl.diagnostics import DiagnosticError, Note, error, nearest
from netdsl.ir.types import NDArrayAny, TensorType, dtype_of
from netdsl.training.data.faults import fault
from netdsl.version import __version__
from netdsl.weights import Checkpoint, Entry, load_checkpoint, save_safetensors

FORMAT = 1
OPTIMIZER, TRAINING, PROGRESS = "optimizer/", "training/", "progress/"
_KEY = "netdsl"
_MAX_LISTED = 20


@dataclass
class Progress:
    """How far a run has come: `epoch` epochs and `batch` batches of the next one are done, after `step` updates.

    `batches` is the number of batches of an epoch, `items` that of the training set; `schedule` and `stopper` are
    their states, the best value so far among them; `settings` are those of the recipe that decide the result.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seed: int = 0
    batches: int = 0
    items: int = 0
    schedule: dict[str, Any] = field(default_factory=dict)
    stopper: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Saved:
    """A checkpoint as it was read: the engine's state, the sums of an interrupted epoch, the progress."""

    state: Mapping[str, NDArrayAny]
    sums: Mapping[str, NDArrayAny]
    progress: Progress
    engine: str
    versions: Mapping[str, str]


def versions() -> dict[str, str]:
    """Of what decides a run's numbers."""
    return {"netdsl": __version__, "numpy": np.__version__, "onnx": onnx.__version__}


def save(
    path: Path,
    state: Mapping[str, NDArrayAny],
    sums: Mapping[str, NDArrayAny],
    progress: Progress,
    weights: Mapping[str, TensorType],
    engine: str,
) -> None:
    """Writes a checkpoint; an old one stays whole until the new one is complete, and if that fails.

    Raises DiagnosticError, a sentence, where the disk is full or the file cannot be written.
    """
    arrays = {name: state[name] for name in weights}
    arrays |= {_outer(name): array for name, array in state.items() if name not in weights}
    arrays |= {PROGRESS + name: array for name, array in sums.items()}
    types = {name: TensorType(dtype_of(array), array.shape) for name, array in arrays.items()}
    about = {"format": FORMAT, "engine": engine, "versions": versions(), "progress": asdict(progress)}
    try:
        save_safetensors(path, types, arrays.__getitem__, metadata={_KEY: json.dumps(about)})
    except OSError as reason:
        kept = "the previous checkpoint is whole" if path.exists() else "there is no earlier one"
        what = reason.strerror or str(reason)
        raise fault("checkpoint-not-written", f"the checkpoint could not be written: {what}; {kept}", path) from None


def save_weights(path: Path, state: Mapping[str, NDArrayAny], weights: Mapping[str, TensorType]) -> None:
    """Writes the weights alone. Raises OSError."""
    types = {name: TensorType(dtype_of(state[name]), state[name].shape) for name in weights}
    save_safetensors(path, types, state.__getitem__)


def _outer(name: str) -> str:
    return name if name.startswith(OPTIMIZER) else TRAINING + name


def load(path: Path, weights: Mapping[str, TensorType]) -> Saved:
    """Reads a checkpoint to go on from.

    Raises OSError where there is none; DiagnosticError where it is damaged, belongs to another network or holds
    weights alone.
    """
    checkpoint = load_checkpoint(path)
    about = _about(checkpoint)
    check_network(checkpoint, weights)
    state: dict[str, NDArrayAny] = {name: checkpoint.read(name) for name in weights}
    sums: dict[str, NDArrayAny] = {}
    for name in checkpoint.entries:
        if name.startswith(OPTIMIZER):
            state[name] = checkpoint.read(name)
        elif name.startswith(TRAINING):
            state[name.removeprefix(TRAINING)] = checkpoint.read(name)
        elif name.startswith(PROGRESS):
            sums[name.removeprefix(PROGRESS)] = checkpoint.read(name)
    return Saved(state, sums, Progress(**about["progress"]), about["engine"], about["versions"])


def _about(checkpoint: Checkpoint) -> dict[str, Any]:
    text = getattr(checkpoint, "metadata", {}).get(_KEY)
    if text is None:
        help = 'start from it with weights = "…" in the recipe, without --resume'
        raise fault("no-progress", "this holds weights alone: there is no run to resume", checkpoint.path, help=help)
    try:
        about: dict[str, Any] = json.loads(text)
        if about["format"] > FORMAT:
            raise fault("newer-checkpoint", "this was written by a newer netdsl: update netdsl", checkpoint.path)
        Progress(**about["progress"])
        str(about["engine"]), dict(about["versions"])
    except (ValueError, TypeError, KeyError):
        raise fault("damaged-checkpoint", "its record of the run cannot be read", checkpoint.path) from None
    return about


def check_network(checkpoint: Checkpoint, weights: Mapping[str, TensorType]) -> None:
    """Raises one DiagnosticError that lists the arrays which a checkpoint lacks, has in another form or has besides."""
    held = {name: entry for name, entry in checkpoint.entries.items() if "/" not in name}
    lines = [*_differences(held, weights)]
    if lines:
        shown = lines if len(lines) <= _MAX_LISTED else [*lines[:_MAX_LISTED], f"and {len(lines) - _MAX_LISTED} more"]
        message = f"the checkpoint belongs to another network: {len(lines)} of {len(weights)} arrays differ"
        notes = [Note(line) for line in shown]
        raise DiagnosticError([error("other-network", message, path=str(checkpoint.path), notes=notes)])


def _differences(held: Mapping[str, Entry], weights: Mapping[str, TensorType]) -> Iterator[str]:
    extra = [name for name in held if name not in weights]
    matched = set()
    for name, type in weights.items():
        if name not in held:
            close = nearest(name, extra)
            matched.add(close)
            yield f"missing: {name}, {type}" + (f"; the nearest is {close}, {held[close]}" if close else "")
        elif (held[name].dtype, held[name].shape) != (type.dtype, type.shape):
            yield f"{name}: expected {type}, found {held[name]}"
    yield from (f"not in the network: {name}, {held[name]}" for name in extra if name not in matched)
