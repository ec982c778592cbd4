"""Text for character models: windows of ids, and the ids that come next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from netdsl.ir.types import NDArrayAny, TensorType
from netdsl.training.data.check import matches
from netdsl.training.data.columns import Column, WindowColumn
from netdsl.training.data.dataset import Dataset
from netdsl.training.data.faults import fault
from netdsl.training.data.wanted import Wanted


def open_text(path: Path, wanted: Wanted) -> Dataset:
    """A text in UTF-8, cut into windows that follow one another.

    An id is a character's place among the sorted characters of the text (of `wanted.vocabulary`, where that is given).
    The input is `[N, T]` ids or `[N, T, V]` ones and zeros; the target `[N, T]` holds the ids that come next, `[N]`
    the one after the window.
    """
    name = wanted.one_input("texts", path)
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise fault("damaged-data", "this is no text in UTF-8", path) from None
    vocabulary = tuple(wanted.vocabulary) or tuple(sorted(set(text)))
    ids = _ids(text, vocabulary, path)
    length = _length(wanted, name)
    if ids.size <= length:
        raise fault("empty-data", f"the text has {ids.size} characters, too few for one window of {length}", path)
    columns: dict[str, Column] = {name: _column(ids, length, 0, name, wanted, len(vocabulary), path)}
    for target in wanted.targets:
        columns[target] = _column(ids, length, 1, target, wanted, len(vocabulary), path)
    return Dataset(columns, str(path), vocabulary=vocabulary)


def _ids(text: str, vocabulary: Sequence[str], path: Path) -> NDArray[np.int64]:
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    known = np.asarray([ord(c) for c in vocabulary], np.uint32)
    order = np.argsort(known)
    at = np.searchsorted(known[order], points).clip(max=known.size - 1)
    ids: NDArray[np.int64] = order[at].astype(np.int64)
    wrong = known[ids] != points
    if wrong.any():
        first = int(np.argmax(wrong))
        raise fault(
            "unknown-character", f"character {first} is {text[first]!r}, which the trained text does not have", path
        )
    return ids


def _length(wanted: Wanted, name: str) -> int:
    shape = wanted.types[name].shape
    return shape[1] if len(shape) > 1 and isinstance(shape[1], int) else wanted.window


def _column(
    ids: NDArrayAny, length: int, shift: int, name: str, wanted: Wanted, vocabulary: int, path: Path
) -> WindowColumn:
    type = wanted.types[name]
    if name in wanted.classes and wanted.classes[name] < vocabulary:
        message = f"the text has {vocabulary} characters, but '{name}' is one of {wanted.classes[name]} classes"
        help = f"make room for them; where the program has a parameter for their number: --set vocabulary={vocabulary}"
        raise fault("label-range", message, path, help=help)
    form = _form(type, shift, length, vocabulary)
    if form is None:
        raise fault(
            "data-shape",
            f"windows of {length} characters do not fit '{name}', which is {type}",
            path,
            help=f"ids are int64[N, {length}]; ones and zeros float32[N, {length}, {vocabulary}]",
        )
    return WindowColumn(ids, length, shift, form)


def _form(type: TensorType, shift: int, length: int, vocabulary: int) -> Callable[[NDArrayAny], NDArrayAny] | None:
    env: dict[str, int] = {}
    if type.dtype.is_integer and type.rank == 2 and matches(type.shape[1], length, env):
        return partial(np.asarray, dtype=type.dtype.numpy)
    if type.dtype.is_integer and type.rank == 1 and shift:
        return partial(_last, dtype=type.dtype.numpy)
    dims = type.shape[1:]
    if type.dtype.is_float and len(dims) == 2 and matches(dims[0], length, env) and matches(dims[1], vocabulary, env):
        return np.eye(vocabulary, dtype=type.dtype.numpy).__getitem__
    return None


def _last(ids: NDArrayAny, dtype: np.dtype[np.generic]) -> NDArrayAny:
    return ids[:, -1].astype(dtype)
