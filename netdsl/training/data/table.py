"""Tables: a `.csv` file with a header row."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from netdsl.diagnostics import DiagnosticError, nearest
from netdsl.ir.types import NDArrayAny, TensorType
from netdsl.training.data.check import fitted
from netdsl.training.data.columns import Column
from netdsl.training.data.dataset import Dataset
from netdsl.training.data.faults import fault, missing
from netdsl.training.data.wanted import Wanted


def parse_columns(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """`--columns`: `name=column`, `name=first,second` or, for neighbours, `name=first:last`. Raises ValueError with
    the sentence for the user."""
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, equals, columns = text.partition("=")
        if not equals or not name.strip() or not columns.strip():
            raise ValueError(f"--columns {text}: expected NAME=COLUMN, NAME=FIRST,SECOND or NAME=FIRST:LAST")
        found[name.strip()] = tuple(column.strip() for column in columns.split(","))
    return found


def open_csv(path: Path, wanted: Wanted) -> Dataset:
    """A table. Without `columns`, an input or target takes the column of its name, and the only input that has none
    takes all those that nobody names, in their order."""
    header, rows = _read(path)
    chosen = _chosen(header, path, wanted)
    cells = _numbers([header.index(c) for columns in chosen.values() for c in columns], header, rows, path)
    env: dict[str, int] = {}
    result: dict[str, Column] = {}
    for name, type in wanted.types.items():
        at = [header.index(c) for c in chosen[name]]
        result[name] = fitted(name, _shaped(cells, at, type, name, path), type, env, path)
    return Dataset(result, str(path))


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = [row for row in csv.reader(stream) if row]
    except (UnicodeDecodeError, csv.Error) as reason:
        raise fault("damaged-data", f"this is no table in UTF-8 ({reason})", path) from None
    if not rows:
        raise fault("empty-data", "the table is empty: it has no header row", path)
    header = [cell.strip() for cell in rows[0]]
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise fault("damaged-data", f"row {number} has {len(row)} cells; the header has {len(header)}", path)
    return header, rows[1:]


def _chosen(header: list[str], path: Path, wanted: Wanted) -> dict[str, tuple[str, ...]]:
    """The columns of every input and target."""
    for name in wanted.columns:
        if name not in wanted.types:
            close = nearest(name, wanted.types)
            help = f"did you mean '{close}'?" if close else f"they are {', '.join(wanted.types)}"
            raise fault("unknown-column", f"--columns names '{name}', which is no input or target", path, help=help)
    chosen = {
        name: tuple(c for text in wanted.columns[name] for c in _expanded(text, header, path))
        if name in wanted.columns
        else (name,)
        for name in wanted.types
        if name in wanted.columns or name in header
    }
    left = [name for name in wanted.types if name not in chosen]
    taken = {column for columns in chosen.values() for column in columns}
    free = tuple(column for column in header if column not in taken)
    if len(left) == 1 and left[0] not in wanted.targets and free:
        chosen[left[0]] = free
    elif left:
        raise missing(wanted.kind(left[0]), left[0], header, path, f"say which columns: --columns {left[0]}=FIRST:LAST")
    return chosen


def _expanded(text: str, header: list[str], path: Path) -> list[str]:
    if text in header:
        return [text]
    first, colon, last = text.partition(":")
    ends = [first.strip(), last.strip()] if colon else [text]
    for end in ends:
        if end not in header:
            close = nearest(end, header)
            help = f"did you mean '{close}'?" if close else f"its columns are {', '.join(header[:20])}"
            raise fault("unknown-column", f"the table has no column '{end}'", path, help=help)
    return header[header.index(ends[0]) : header.index(ends[-1]) + 1]


def _numbers(at: Sequence[int], header: list[str], rows: list[list[str]], path: Path) -> Mapping[int, NDArrayAny]:
    """Those columns as integers where they all are, else as float64."""
    found: dict[int, NDArrayAny] = {}
    for column in at:
        texts = [row[column] for row in rows]
        try:
            found[column] = np.asarray([int(text) for text in texts], np.int64)
        except (ValueError, OverflowError):
            try:
                found[column] = np.asarray([float(text) for text in texts], np.float64)
            except ValueError:
                raise _bad_cell(texts, header[column], path) from None
    return found


def _bad_cell(texts: Sequence[str], column: str, path: Path) -> DiagnosticError:
    for number, text in enumerate(texts, start=2):
        try:
            float(text)
        except ValueError:
            said = f"row {number}, column '{column}' holds"
            if not text.strip():
                return fault("data-not-a-number", f"{said} nothing", path)
            help = "number its classes 0, 1, …" if len(set(texts)) < len(texts) else ()
            return fault("data-not-a-number", f"{said} '{text[:40]}', which is no number", path, help=help)
    raise AssertionError("every cell is a number")


def _shaped(cells: Mapping[int, NDArrayAny], at: Sequence[int], type: TensorType, name: str, path: Path) -> NDArrayAny:
    """One column for a type of rank 1; else the columns side by side, folded to the type's sizes."""
    if type.rank == 1 and len(at) == 1:
        return cells[at[0]]
    array = np.stack([cells[column] for column in at], axis=1)
    rest = [d for d in type.shape[1:] if isinstance(d, int)]
    if len(rest) == type.rank - 1 and type.rank > 2 and int(np.prod(rest)) == len(at):
        return array.reshape(-1, *rest)
    return array
