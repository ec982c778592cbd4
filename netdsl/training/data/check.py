"""Arrays against what a recipe wants, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from netdsl.ir.dims import Dim, Expr, evaluate, solve, to_text
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.training.data.columns import ArrayColumn, Column
from netdsl.training.data.dataset import Dataset
from netdsl.training.data.faults import fault

_PART = 1 << 22  # elements looked at in one go: a memory-mapped file is never in memory as a whole


def shape_of(array: NDArrayAny) -> str:
    return f"{array.dtype}{list(array.shape)}"


def fitted(name: str, array: NDArrayAny, wanted: TensorType, env: dict[str, int], where: object) -> Column:
    """The array as a column of the wanted type. `env` holds the symbols that are known by now, and gains more.

    Raises DiagnosticError where rank, shape, element type or values do not fit.
    """
    if array.dtype.hasobject:
        raise fault("object-array", f"'{name}' is an array of Python objects, which are never unpickled", where)
    _check_shape(name, array, wanted, env, where)
    _check_type(name, array, wanted, where)
    return ArrayColumn(array, wanted.dtype.numpy)


def _check_shape(name: str, array: NDArrayAny, wanted: TensorType, env: dict[str, int], where: object) -> None:
    if not wanted.shape:
        raise fault(
            "data-shape", f"'{name}' is {wanted}: what comes with every item needs an axis for the batch", where
        )
    expected = f"expected {wanted} with the items along axis 0, found {shape_of(array)}"
    if array.ndim != wanted.rank:
        raise fault("data-shape", f"'{name}' has the wrong rank: {expected}", where, help=_rank_help(array, wanted))
    for axis, (dim, size) in enumerate(zip(wanted.shape[1:], array.shape[1:], strict=True), start=1):
        if not matches(dim, size, env):
            detail = f"axis {axis} should be {to_text(dim)}{_known(dim, env)}, not {size}"
            raise fault(
                "data-shape",
                f"'{name}' has the wrong shape: {expected}",
                where,
                notes=[detail],
                help=_axes_help(array.shape, wanted.shape),
            )


def matches(dim: Dim, size: int, env: dict[str, int]) -> bool:
    """Whether a dimension can be `size`, given the symbols of `env`; binds in it the one that it lacks."""
    if not isinstance(dim, Expr):
        return dim == size
    if dim.symbols <= env.keys():
        return evaluate(dim, env) == size
    value = solve(dim, size, env)
    if isinstance(value, int):
        (symbol,) = dim.symbols - env.keys()
        env[symbol] = value
        return True
    return len(dim.symbols - env.keys()) > 1  # the graph itself will tell


def _known(dim: Dim, env: Mapping[str, int]) -> str:
    if not isinstance(dim, Expr):
        return ""
    values = ", ".join(f"{s} = {env[s]}" for s in sorted(dim.symbols) if s in env)
    return f" ({values})" if values else ""


def _rank_help(array: NDArrayAny, wanted: TensorType) -> str:
    rest = wanted.shape[1:]
    if all(isinstance(d, int) for d in rest) and rest and array.ndim and array.size:
        product = int(np.prod([d for d in rest if isinstance(d, int)]))
        if product == array[0].size:
            sizes = ", ".join(map(str, rest))
            return f"save it with array.reshape(-1, {sizes})"
    return ""


def _axes_help(found: Sequence[int], wanted: Sequence[Dim]) -> str:
    if len(found) == 4 and found[3] == wanted[1] and found[3] in (1, 3):
        return "the channels come before height and width: save it with array.transpose(0, 3, 1, 2)"
    return ""


def _check_type(name: str, array: NDArrayAny, wanted: TensorType, where: object) -> None:
    """Floats convert among themselves, integers and booleans to what holds all of their values."""
    found, target = array.dtype, wanted.dtype
    if found == target.numpy:
        return
    if found.kind == "f" and target.is_float:
        _check_range(name, array, target, where)
    elif found.kind in "iub":
        _check_exact(name, array, target, where)
    else:
        wide = f"array.astype({'bool' if target is DType.bool else f'numpy.{target}'})"
        help = f"save it with {wide} if its values are whole numbers" if found.kind == "f" else ""
        raise fault(
            "data-type", f"'{name}' has the wrong type: expected {wanted}, found {shape_of(array)}", where, help=help
        )


def _check_range(name: str, array: NDArrayAny, target: DType, where: object) -> None:
    if target.size >= array.dtype.itemsize:
        return
    for first, part in parts(array):
        with np.errstate(over="ignore"):
            bad = np.isfinite(part) & ~np.isfinite(part.astype(target.numpy).astype(np.float64))
        if bad.any():
            at = _index(array, first, bad)
            raise fault("data-type", f"'{name}' does not fit into {target}: {array[at]} at index {_text(at)}", where)


def _check_exact(name: str, array: NDArrayAny, target: DType, where: object) -> None:
    for first, part in parts(array):
        with np.errstate(invalid="ignore", over="ignore"):
            there = part.astype(target.numpy)
            bad = there.astype(part.dtype) != part
        if target.is_integer and part.dtype.kind != "b":  # wrapped around: the way back is exact, the sign is not
            bad |= np.asarray(np.less(there, 0) != np.less(part, 0))
        if bad.any():
            at = _index(array, first, bad)
            raise fault(
                "data-type",
                f"'{name}' is {array.dtype}, and {array[at]} at index {_text(at)} does not fit into {target}",
                where,
            )


def parts(array: NDArrayAny) -> Iterator[tuple[int, NDArrayAny]]:
    """Slices along axis 0 with the number of their first item."""
    per_item = max(1, int(np.prod(array.shape[1:])))
    step = max(1, _PART // per_item)
    for first in range(0, len(array), step):
        yield first, array[first : first + step]


def _index(array: NDArrayAny, first: int, bad: NDArrayAny) -> tuple[int, ...]:
    at = np.unravel_index(int(np.argmax(bad.reshape(-1))), bad.shape)
    return (first + int(at[0]), *(int(i) for i in at[1:]))


def _text(index: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, index))}]"


def check_dataset(dataset: Dataset, classes: Mapping[str, int], ignore: Mapping[str, int]) -> None:
    """Raises DiagnosticError for an empty set, arrays of different lengths, NaN or infinity, and class ids outside of
    0 … classes - 1 (those equal to `ignore` may be anywhere)."""
    lengths = {name: len(column) for name, column in dataset.columns.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"'{name}' {length}" for name, length in lengths.items())
        raise fault("data-length", "the arrays have different numbers of items", dataset.where, notes=[listed])
    if not len(dataset):
        raise fault("empty-data", "the data set is empty: there is not one item", dataset.where)
    for name, column in dataset.columns.items():
        if isinstance(column, ArrayColumn):
            if column.array.dtype.kind not in "iub":
                _check_finite(name, column.array, dataset.where)
            if name in classes:
                _check_classes(name, column.array, classes[name], ignore.get(name), dataset.where)


def _check_finite(name: str, array: NDArrayAny, where: object) -> None:
    for first, part in parts(array):
        bad = ~np.isfinite(part)
        if bad.any():
            at = _index(array, first, bad)
            what = "NaN" if np.isnan(array[at]) else "infinity"
            raise fault(
                "data-not-finite",
                f"'{name}' holds {what}: the first is at index {_text(at)}",
                where,
                help="one such number spreads to the loss and to every weight: remove these items or fill them in",
            )


def _check_classes(name: str, array: NDArrayAny, count: int, ignore: int | None, where: object) -> None:
    for first, part in parts(array):
        bad = np.asarray(np.less(part, 0) | np.greater_equal(part, count))
        if ignore is not None:
            bad &= part != ignore
        if bad.any():
            at = _index(array, first, bad)
            raise fault(
                "label-range",
                f"'{name}' should hold ids from 0 to {count - 1}, found {array[at]} at index {_text(at)}",
                where,
                notes=[f"its values go from {array.min()} to {array.max()}"],
                help="classes count from 0" if array.min() == 1 and array.max() == count else "",
            )
