"""Arrays against a model's inputs: names, element types, shapes, and the symbols' values."""

from __future__ import annotations

from collections.abc import Mapping

from netdsl.diagnostics import nearest
from netdsl.ir.dims import Dim, Expr, evaluate, solve, to_text
from netdsl.ir.types import NDArrayAny, TensorType, dtype_of


def bind(types: Mapping[str, TensorType], arrays: Mapping[str, NDArrayAny]) -> dict[str, int]:
    """The symbols' values. Raises ValueError, a sentence with what was expected and found, for an input that is missing
    or unknown, of another element type or shape, or that contradicts another about a symbol."""
    _check_names(types, arrays)
    for name, type in types.items():
        _check_type(name, type, arrays[name])
    return _Symbols(types, arrays).solved()


def _check_names(types: Mapping[str, TensorType], arrays: Mapping[str, NDArrayAny]) -> None:
    for name in arrays:
        if name not in types:
            close = nearest(name, types)
            hint = f"did you mean {close!r}?" if close else f"the inputs are {', '.join(types) or 'none'}"
            raise ValueError(f"there is no input {name!r}; {hint}")
    missing = [f"{name!r} ({type})" for name, type in types.items() if name not in arrays]
    if missing:
        raise ValueError(f"missing input{'s' if len(missing) > 1 else ''} {', '.join(missing)}")


def _check_type(name: str, type: TensorType, array: NDArrayAny) -> None:
    found = _text(array)
    try:
        fits = dtype_of(array) is type.dtype
    except KeyError:
        fits = False
    if not fits:
        raise ValueError(f"input {name!r}: expected {type}, found {found}; convert it: .astype({str(type.dtype)!r})")
    if array.ndim != type.rank:
        raise ValueError(f"input {name!r}: expected {type} of rank {type.rank}, found {found} of rank {array.ndim}")


def _text(array: NDArrayAny) -> str:
    return f"{array.dtype}[{', '.join(map(str, array.shape))}]"


class _Symbols:
    """Solves the symbols axis by axis; an axis with two unknown symbols waits until one of them is known."""

    def __init__(self, types: Mapping[str, TensorType], arrays: Mapping[str, NDArrayAny]) -> None:
        self._types = types
        self._arrays = arrays
        self._env: dict[str, int] = {}
        self._from: dict[str, str] = {}

    def solved(self) -> dict[str, int]:
        axes = [(name, i, dim) for name, type in self._types.items() for i, dim in enumerate(type.shape)]
        while axes:
            waiting = [axis for axis in axes if not self._settled(*axis)]
            if len(waiting) == len(axes):
                return self._env
            axes = waiting
        return self._env

    def _settled(self, name: str, axis: int, dim: Dim) -> bool:
        """Checks an axis, or finds its symbol's value; False where more symbols must be known first."""
        found = self._arrays[name].shape[axis]
        unknown = dim.symbols - self._env.keys() if isinstance(dim, Expr) else frozenset()
        if not unknown:
            expected = evaluate(dim, self._env)
            if expected != found:
                raise self._mismatch(name, axis, dim, f"is {found}, not {self._why(dim, expected)}")
            return True
        if len(unknown) > 1:
            return False
        (symbol,) = unknown
        value = solve(dim, found, self._env)
        if not isinstance(value, int):
            raise self._mismatch(name, axis, dim, f"is {found}, which is no {to_text(dim)} of a positive {symbol}")
        self._env[symbol] = value
        self._from[symbol] = f"{name!r} axis {axis}"
        return True

    def _why(self, dim: Dim, expected: int) -> str:
        if not isinstance(dim, Expr):
            return str(expected)
        known = ", ".join(f"{s} is {self._env[s]} by {self._from[s]}" for s in sorted(dim.symbols))
        return f"{to_text(dim)} = {expected} ({known})"

    def _mismatch(self, name: str, axis: int, dim: Dim, what: str) -> ValueError:
        found = _text(self._arrays[name])
        return ValueError(f"input {name!r}: expected {self._types[name]}, found {found}: axis {axis} {what}")
