"""Graphs of one operator for tests: call it as a program does, then evaluate its nodes by their NumPy rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from netdsl.ir.build import GraphBuilder
from netdsl.ir.dims import Dim, evaluate, symbol
from netdsl.ir.graph import Graph, Value
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import OPERATORS
from netdsl.ops.layer import Layer
from netdsl.runtime.interpret import run_node


def tensor(text: str, *shape: Dim | str) -> TensorType:
    """`tensor("float32", "N", 3)`: a name is a symbol."""
    return TensorType(DType[text], tuple(symbol(d) if isinstance(d, str) else d for d in shape))


class Bench:
    """A graph in the making, with inputs `x0`, `x1`, …"""

    def __init__(self, *inputs: TensorType, frozen: bool = False) -> None:
        self.builder = GraphBuilder("bench")
        self.inputs = [self.builder.input(f"x{i}", t) for i, t in enumerate(inputs)]
        self.layer = Layer(self.builder, "layer", frozen=frozen)

    def call(self, name: str, *arguments: Any, **named: Any) -> Any:
        """The operator's call, with arguments converted and defaults filled in as the compiler does."""
        op = OPERATORS[name]
        variadic = bool(op.signature) and op.signature[0].kind.variadic
        given = (
            {op.signature[0].name: arguments}
            if variadic
            else dict(zip((p.name for p in op.signature), arguments, strict=False))
        )
        given |= named
        given |= {p.name: given[p.default_from] for p in op.signature if p.default_from and p.name not in given}
        defaults = {p.name: p.default for p in op.signature if not p.required and p.name not in given}
        return op.call(self.layer, **{p.name: p.kind.convert((given | defaults)[p.name]) for p in op.signature})

    def graph(self, *outputs: Value) -> Graph:
        for i, value in enumerate(outputs):
            self.builder.output(f"y{i}", value)
        return self.builder.finish()

    def run(self, arrays: Mapping[Value, NDArrayAny], env: Mapping[str, int] | None = None) -> dict[Value, NDArrayAny]:
        """Every value of the graph; checks each node's shape rule against its NumPy rule."""
        env = dict(env or {})
        values = dict(arrays)
        for node in self.builder.nodes:
            for value, array in zip(node.outputs, run_node(node, values, env), strict=True):
                assert array.shape == tuple(evaluate(d, env) for d in value.shape), node
                assert array.dtype == value.dtype.numpy, node
                values[value] = array
        return values


def result(name: str, *arguments: Any, **named: Any) -> Any:
    """The operator applied to arrays (and plain values); a tuple if it has several outputs."""
    arrays = [a for a in arguments if isinstance(a, np.ndarray)]
    bench = Bench(*(TensorType(_dtype(a), a.shape) for a in arrays))
    values = iter(bench.inputs)
    outputs = bench.call(name, *(next(values) if isinstance(a, np.ndarray) else a for a in arguments), **named)
    found = bench.run(dict(zip(bench.inputs, arrays, strict=True)))
    return tuple(found[v] for v in outputs) if isinstance(outputs, tuple) else found[outputs]


def _dtype(array: NDArrayAny) -> DType:
    return next(t for t in DType if t.numpy == array.dtype)
