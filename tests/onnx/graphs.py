"""Graphs for the tests of export and runtime, built without the language."""

from __future__ import annotations

from typing import Any

from netdsl.ir.build import GraphBuilder
from netdsl.ir.dims import Dim, parse_dim
from netdsl.ir.graph import Graph, Value
from netdsl.ir.types import DType, TensorType
from netdsl.ops import OPERATORS
from netdsl.ops.layer import Layer
from netdsl.source import Place


def tensor(text: str, *shape: Dim | str) -> TensorType:
    """`tensor("float32", "N", 3, "32*h")`."""
    return TensorType(DType[text], tuple(parse_dim(d) if isinstance(d, str) else d for d in shape))


class Net:
    """A graph in the making: `net("conv", x, 8, 3, path="stem.conv")` calls an operator as a program does."""

    def __init__(self, **inputs: TensorType) -> None:
        self.builder = GraphBuilder("T")
        self.inputs = [self.builder.input(name, type) for name, type in inputs.items()]

    def __call__(self, name: str, *arguments: Any, path: str | None = None, line: int = 1, **named: Any) -> Any:
        op = OPERATORS[name]
        layer = Layer(self.builder, path or name, Place("t.net", line, 5))
        if op.signature[0].kind.variadic:
            return op.call(layer, **{op.signature[0].name: op.signature[0].kind.convert(arguments)}, **named)
        given = dict(zip((p.name for p in op.signature), arguments, strict=False)) | named
        for p in op.signature:
            if p.name not in given:
                given[p.name] = given[p.default_from] if p.default_from else p.default
        return op.call(layer, **{p.name: p.kind.convert(given[p.name]) for p in op.signature})

    def graph(self, **outputs: Value) -> Graph:
        for name, value in outputs.items():
            self.builder.output(name, value)
        return self.builder.finish()


def small_net() -> Graph:
    """Convolution, batch norm, pooling, dense; a symbolic batch and size."""
    net = Net(image=tensor("float32", "N", 3, "8*h", "8*w"))
    (x,) = net.inputs
    x = net("conv", x, 6, 3, padding=1, path="stem.conv", line=3)
    x = net("batch_norm", x, path="stem.batch_norm", line=4)
    x = net("relu", x, path="stem.relu", line=4)
    x = net("conv", x, 5, 1, path="head.conv", line=6)
    x = net("mean", x, [2, 3], path="mean", line=7)
    return net.graph(logits=net("dense", x, 4, path="dense", line=8))
