"""Symbols' values when the model runs, computed from the inputs' shapes in ONNX nodes.

`x: float32[N, 3, 32*h, 32*w]` gives h as `Shape(x)[2] / 32`. Every expression is computed once for the whole model, as
an int64 vector of one element. Division rounds down, as in the language; ONNX's own cuts towards zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from netdsl.diagnostics import DiagnosticError, error
from netdsl.ir.dims import Dim, DimError, Expr, bounds, substitute, symbol
from netdsl.ir.dims.expr import wrap
from netdsl.ir.dims.terms import Atom, Extremum, Floor, Mono, Symbol
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Emitter


class SharedEmitter(Emitter, Protocol):
    """An Emitter that can emit nodes that belong to no layer."""

    def shared(self) -> AbstractContextManager[None]: ...


@dataclass(frozen=True)
class Source:
    """Where a symbol's value is found: `factor * symbol + rest` is the size of an axis of an input, or of the result of
    the node that finds a count."""

    value: Value
    axis: int
    factor: Dim
    rest: Dim


class Shapes:
    """Computes dimensions in the nodes of one model."""

    def __init__(self, emitter: SharedEmitter, inputs: Sequence[Value], names: Mapping[Value, str]) -> None:
        self._emitter = emitter
        self._names = dict(names)
        self._sources = find_sources(inputs)
        self._dims: dict[Dim, str] = {}
        self._vectors: dict[tuple[Dim, ...], str] = {}

    def found(self, node: Node, names: Sequence[str]) -> None:
        """A node that finds counts has been emitted; `names` are those of its outputs."""
        for value, name in zip(node.outputs, names, strict=True):
            for axis, dim in enumerate(value.shape):
                if isinstance(dim, Expr) and not dim.symbols.isdisjoint(node.op.counts):
                    self._names[value] = name
                    self._sources.setdefault(min(dim.symbols), Source(value, axis, 1, 0))

    def vector(self, dims: Sequence[Dim]) -> str:
        """An int64 vector of dimensions. Raises DiagnosticError for a symbol that no input's shape determines."""
        key = tuple(dims)
        if all(isinstance(d, int) for d in key):
            return self._emitter.ints([d for d in key if isinstance(d, int)])
        found = self._vectors.get(key)
        if found is None:
            with self._emitter.shared():
                parts = [self._dim(p) if isinstance(p, Expr) else self._emitter.ints(p) for p in _parts(key)]
                found = parts[0] if len(parts) == 1 else self._emitter.emit("Concat", *parts, axis=0)
            self._vectors[key] = found
        return found

    def _dim(self, dim: Dim) -> str:
        """A dimension as a vector of one element."""
        if isinstance(dim, int):
            return self._emitter.ints([dim])
        found = self._dims.get(dim)
        if found is None:
            found = self._dims[dim] = self._polynomial(dim)
        return found

    def _polynomial(self, dim: Expr) -> str:
        """Terms that add before those that subtract."""
        ordered = sorted(dim.terms.items(), key=lambda t: (t[1] < 0, not t[0], [a.key for a in t[0]]))
        total = ""
        for mono, value in ordered:
            if not total:
                total = self._term(mono, value)
            else:
                total = self._emitter.emit("Add" if value > 0 else "Sub", total, self._term(mono, abs(value)))
        return total

    def _term(self, mono: Mono, value: int) -> str:
        factors = [self._atom(atom) for atom in mono]
        if value != 1 or not factors:
            factors.append(self._emitter.ints([value]))
        product = factors[0]
        for factor in factors[1:]:
            product = self._emitter.emit("Mul", product, factor)
        return product

    def _atom(self, atom: Atom) -> str:
        key = wrap({(atom,): 1})
        found = self._dims.get(key)
        if found is None:
            found = self._dims[key] = self._new_atom(atom)
        return found

    def _new_atom(self, atom: Atom) -> str:
        match atom:
            case Symbol():
                return self._symbol(atom.name)
            case Floor():
                return self._floor(wrap(atom.num), wrap(atom.den))
            case Extremum():
                return self._emitter.emit(atom.kind.capitalize(), *(self._dim(wrap(a)) for a in atom.args))
            case _:
                raise TypeError(f"no ONNX form for {atom!r}")

    def _floor(self, num: Dim, den: Dim) -> str:
        numerator, denominator = self._dim(num), self._dim(den)
        low = bounds(num)[0]
        if low is None or low < 0:
            rest = self._emitter.emit("Mod", numerator, denominator)  # of the divisor's sign, as in Python
            numerator = self._emitter.emit("Sub", numerator, rest)
        return self._emitter.emit("Div", numerator, denominator)

    def _symbol(self, name: str) -> str:
        source = self._sources.get(name)
        if source is None:
            message = f"the symbol {name} is needed when the model runs, but no input's shape says its value"
            help = f"let an input have an axis of size {name}, or give it a value: --set {name}=…"
            raise DiagnosticError([error("unknown-symbol", message, help=help)])
        size = self._emitter.emit("Shape", self._names[source.value], start=source.axis, end=source.axis + 1)
        if source.rest != 0:
            size = self._emitter.emit("Sub", size, self._dim(source.rest))
        return size if source.factor == 1 else self._emitter.emit("Div", size, self._dim(source.factor))


def find_sources(inputs: Iterable[Value]) -> dict[str, Source]:
    """For each symbol an axis that determines it: one that is the symbol itself, else one that is linear in it, other
    symbols being known by then."""
    axes = [(v, i, d) for v in inputs for i, d in enumerate(v.shape) if isinstance(d, Expr)]
    found: dict[str, Source] = {}
    for value, axis, dim in axes:
        if len(dim.symbols) == 1 and dim == symbol(name := next(iter(dim.symbols))):
            found.setdefault(name, Source(value, axis, 1, 0))
    progress = True
    while progress:
        progress = False
        for value, axis, dim in axes:
            unknown = dim.symbols - found.keys()
            if len(unknown) == 1:
                (name,) = unknown
                parts = linear_parts(dim, name)
                if parts is not None:
                    found[name] = Source(value, axis, *parts)
                    progress = True
    return found


def linear_parts(dim: Expr, name: str) -> tuple[Dim, Dim] | None:
    """(factor, rest) with `dim == factor * name + rest`, neither of which has the symbol; None if it is not linear."""
    try:
        at_one, at_two = substitute(dim, {name: 1}), substitute(dim, {name: 2})
        factor = at_two - at_one
        rest = at_one - factor
        return (factor, rest) if factor != 0 and factor * symbol(name) + rest == dim else None
    except DimError:
        return None


def _parts(dims: Sequence[Dim]) -> list[Expr | list[int]]:
    """Symbolic dimensions one by one, integers between them together."""
    parts: list[Expr | list[int]] = []
    for dim in dims:
        if isinstance(dim, Expr):
            parts.append(dim)
        elif parts and isinstance(parts[-1], list):
            parts[-1].append(dim)
        else:
            parts.append([dim])
    return parts
