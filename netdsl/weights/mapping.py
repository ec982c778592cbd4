"""Parameters against a checkpoint's names, shapes and element types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from netdsl.diagnostics import Diagnostic, DiagnosticError, Note, error, nearest
from netdsl.ir.graph import Parameter
from netdsl.ir.types import DType, NDArrayAny
from netdsl.weights.checkpoint import Checkpoint, Entry

MAX_LISTED = 10  # names listed in one diagnostic; the rest are counted
FEW_LISTED = 3  # where the whole file is of the wrong kind
FOLDED = "/folded"  #: ends the names of an exported model's weights that were computed from parameters


def check_names(parameters: Iterable[Parameter], checkpoint: Checkpoint) -> tuple[str, ...]:
    """Remarks on element types that will be converted; names that the network does not have are no fault.

    Raises DiagnosticError with every parameter that the checkpoint lacks, with the nearest name that it holds, and
    every one that it holds with another shape or a type that does not convert.
    """
    entries = checkpoint.entries
    parameters = list(parameters)
    missing = [p for p in parameters if p.name not in entries]
    found = [(p, entries[p.name]) for p in parameters if p.name in entries]
    misfits = [(p, e) for p, e in found if not _fits(p, e)]
    problems = [
        *_missing(missing, {p.name for p in parameters}, checkpoint, len(parameters)),
        *_misfits(misfits, checkpoint),
    ]
    if problems:
        raise DiagnosticError(problems)
    return _conversions(found)


def convert(array: NDArrayAny, dtype: DType) -> NDArrayAny:
    """A checkpoint's array in the parameter's element type."""
    with np.errstate(over="ignore"):
        return array.astype(dtype.numpy, copy=False)


def _fits(parameter: Parameter, entry: Entry) -> bool:
    if entry.dtype is None or parameter.value.shape != entry.shape:
        return False
    return _converts(entry.dtype, parameter.value.dtype)


def _converts(found: DType, wanted: DType) -> bool:
    """Floats convert among themselves; anything else must be the same."""
    return found is wanted or (found.is_float and wanted.is_float)


def _missing(
    missing: Sequence[Parameter], wanted: set[str], checkpoint: Checkpoint, total: int
) -> Iterator[Diagnostic]:
    if not missing:
        return
    free = {name: e for name, e in checkpoint.entries.items() if name not in wanted}
    folded = _folded_help(checkpoint)
    limit = FEW_LISTED if folded else MAX_LISTED
    notes = [Note(_missing_line(p, free)) for p in missing[:limit]]
    yield error(
        "missing-weight",
        f"the checkpoint lacks {len(missing)} of the network's {_count(total, 'parameter')}",
        path=str(checkpoint.path),
        notes=_limited(notes, len(missing)),
        help=_prefix_help(missing, checkpoint.entries)
        or folded
        or "a checkpoint's names are the layers' paths: netdsl report --format json lists them under 'state'",
    )


def _missing_line(parameter: Parameter, free: Mapping[str, Entry]) -> str:
    """The nearest of the names that nobody reads, one of the right shape if there is one."""
    text = f"missing: {parameter.name}, {parameter.value.type}"
    fitting = [name for name, e in free.items() if e.shape == parameter.value.shape]
    close = nearest(parameter.name, fitting) or nearest(parameter.name, free)
    return f"{text}; the nearest is {close}, {free[close]}" if close else text


def _prefix_help(missing: Sequence[Parameter], entries: Mapping[str, Entry]) -> str:
    """Checkpoints of wrapped modules carry one prefix before every name."""
    first = missing[0].name
    prefixes = [name.removesuffix(first) for name in entries if name.endswith("." + first)]
    for prefix in prefixes:
        if all(prefix + p.name in entries for p in missing):
            return f'the names of the checkpoint begin with "{prefix}"; save it without that prefix'
    return ""


def _folded_help(checkpoint: Checkpoint) -> str:
    """For a model whose weights are no longer the program's."""
    if checkpoint.path.suffix == ".onnx" and any(name.endswith(FOLDED) for name in checkpoint.entries):
        return "the weights of this model were folded into one another: compile it with -O 0 to use it as a checkpoint"
    return ""


def _misfits(misfits: Sequence[tuple[Parameter, Entry]], checkpoint: Checkpoint) -> Iterator[Diagnostic]:
    if not misfits:
        return
    notes = [Note(f"{p.name}: expected {p.value.type}, found {e}") for p, e in misfits[:MAX_LISTED]]
    yield error(
        "weight-mismatch",
        f"the checkpoint does not fit the network in {_count(len(misfits), 'array')}",
        path=str(checkpoint.path),
        notes=_limited(notes, len(misfits)),
    )


def _limited(notes: list[Note], total: int) -> list[Note]:
    return notes if total <= len(notes) else [*notes, Note(f"and {total - len(notes)} more")]


def _conversions(found: Iterable[tuple[Parameter, Entry]]) -> tuple[str, ...]:
    converted: dict[tuple[DType, DType], list[str]] = {}
    for parameter, entry in found:
        if entry.dtype is not None and entry.dtype is not parameter.value.dtype:
            converted.setdefault((entry.dtype, parameter.value.dtype), []).append(parameter.name)
    return tuple(
        f"{_count(len(names), 'array')} converted from {a} to {b}: {_few(names)}" for (a, b), names in converted.items()
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
