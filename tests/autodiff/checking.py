"""Gradients against central finite differences, both by the NumPy rules in float64.

`check_gradient(graph, inputs)` is all that a test needs. The loss is the sum of the graph's float outputs times fixed
random weights; it is differentiated with respect to every float input and every parameter, and the gradient's product
with random directions must be the loss's change along them. Inputs are moved off the lattice of small numbers, so that
no point is a kink.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from netdsl.autodiff.backward import backward
from netdsl.autodiff.extend import Extension
from netdsl.ir.build import GraphBuilder
from netdsl.ir.dims import evaluate
from netdsl.ir.graph import Graph, Node, Output, Value
from netdsl.ir.opdef import Primitive
from netdsl.ir.types import Array, DType, NDArrayAny, TensorType, dtype_of
from netdsl.onnx.export import to_proto
from netdsl.runtime.bind import bind
from netdsl.runtime.interpret import interpret, run_node
from netdsl.runtime.session import Session
from netdsl.weights import WeightStore

Arrays = dict[Value, NDArrayAny]
STEP = 1e-6


def as_float64(graph: Graph) -> Graph:
    """The graph with every float type replaced by float64: inputs, parameters, constants and attributes."""
    builder = GraphBuilder(graph.name)
    made = {v: builder.input(v.name, _wide_type(v.type)) for v in graph.inputs}
    for p in graph.parameters:
        wide = _wide_type(p.value.type)
        made[p.value] = builder.parameter(
            p.name, wide.shape, p.initializer, dtype=wide.dtype, kind=p.kind, trainable=p.trainable
        ).value
    for node in graph.nodes:
        new = builder.node(_wide_op(node.op), *(made[v] for v in node.inputs), path=node.path, place=node.place)
        made.update(zip(node.outputs, new.outputs, strict=True))
    for output in graph.outputs:
        builder.output(output.name, made[output.value])
    return builder.finish()


def _wide_type(type: TensorType) -> TensorType:
    return type.with_dtype(DType.float64) if type.dtype.is_float else type


def _wide_op(op: Primitive) -> Primitive:
    changes: dict[str, Any] = {}
    for field in fields(op):
        match getattr(op, field.name):
            case DType() as dtype if dtype.is_float:
                changes[field.name] = DType.float64
            case Array() as array if dtype_of(array.data).is_float:
                changes[field.name] = Array(array.data.astype(np.float64))
    return replace(op, **changes) if changes else op


def drawn(type: TensorType, shape: Sequence[int], rng: np.random.Generator) -> NDArrayAny:
    """Random values of a type: normal, small natural numbers, or booleans."""
    if type.dtype.is_float:
        return rng.normal(size=tuple(shape))
    if type.dtype is DType.bool:
        return rng.integers(0, 2, tuple(shape)).astype(bool)
    return rng.integers(0, 4, tuple(shape)).astype(type.dtype.numpy)


def point(type: TensorType, given: Sequence[int] | NDArrayAny, rng: np.random.Generator) -> NDArrayAny:
    """An input's value from what a case gives, its shape or an array; floats move up a little, and infinite ones become
    random."""
    if not isinstance(given, np.ndarray):
        return drawn(type, given, rng)
    if not type.dtype.is_float:
        return given.astype(type.dtype.numpy)
    values = given.astype(np.float64)
    values = np.where(np.isfinite(values) & (np.abs(values) < 1e3), values, rng.normal(size=values.shape))
    return np.asarray(values + rng.uniform(0.02, 0.08, values.shape))


def run(nodes: Sequence[Node], arrays: Arrays, env: dict[str, int]) -> Arrays:
    """Every value by the NumPy rules; each result must have the inferred type."""
    values = dict(arrays)
    for node in nodes:
        for value, array in zip(node.outputs, run_node(node, values, env), strict=True):
            assert array.shape == tuple(evaluate(d, env) for d in value.shape), f"{node}: found {array.shape}"
            assert array.dtype == value.dtype.numpy, f"{node}: found {array.dtype}"
            values[value] = array
    return values


@dataclass
class _Loss:
    """The sum of the float outputs times fixed weights, as a function of the values of inputs and parameters."""

    graph: Graph
    env: dict[str, int]
    weights: Arrays

    def __call__(self, arrays: Arrays) -> float:
        values = run(self.graph.nodes, arrays, self.env)
        return float(sum(np.sum(values[v] * w) for v, w in self.weights.items()))


def check_gradient(
    graph: Graph,
    inputs: Mapping[str, Sequence[int] | NDArrayAny],
    *,
    parameters: Mapping[str, NDArrayAny] | None = None,
    tolerance: float = 2e-6,
    directions: int = 2,
    seed: int = 0,
) -> dict[str, NDArrayAny]:
    """Compares the gradients of a graph, of any float types, with finite differences.

    `inputs` gives each input's shape or value, `parameters` values of some parameters (the others are random). Returns
    the gradients by name, in float64. Raises AssertionError where they differ, DiagnosticError where an operator has no
    gradient.
    """
    graph = as_float64(graph)
    rng = np.random.default_rng(seed)
    arrays = {v: point(v.type, inputs[v.name], rng) for v in graph.inputs}
    env = bind({v.name: v.type for v in graph.inputs}, {v.name: arrays[v] for v in graph.inputs})
    for p in graph.parameters:
        shape = [evaluate(d, env) for d in p.value.shape]
        given = (parameters or {}).get(p.name)
        arrays[p.value] = rng.uniform(0.5, 1.5, shape) if given is None else np.asarray(given, p.value.dtype.numpy)
    sources = [v for v in graph.inputs if v.dtype.is_float]
    sources += [p.value for p in graph.parameters if p.kind == "parameter" and p.value.dtype.is_float]
    outputs = {o.value for o in graph.outputs if o.value.dtype.is_float}
    run(graph.nodes, arrays, env)  # finds the counts
    shapes = {v: tuple(evaluate(d, env) for d in v.shape) for v in outputs}
    loss = _Loss(graph, env, {v: np.asarray(rng.normal(size=shapes[v])) for v in sorted(outputs, key=lambda v: v.name)})
    found = gradients(graph, sources, arrays, env, loss.weights)
    for source in sources:
        for number in range(directions):
            _check_direction(loss, arrays, source, found[source], np.random.default_rng((seed, number)), tolerance)
    return {v.name: g for v, g in found.items()}


def gradients(graph: Graph, sources: Sequence[Value], arrays: Arrays, env: dict[str, int], weights: Arrays) -> Arrays:
    """The gradients by the compiler's rules, evaluated; zeros for sources that the outputs do not depend on."""
    extension = Extension(graph)
    seeds = {v: Value(extension.names.take("seed"), v.type) for v in weights}
    names = backward(extension, graph.nodes, seeds, sources)
    for source, value in names.items():
        assert value.type == source.type, f"{source} has a gradient {value.type}"
    given = {**arrays, **{seeds[v]: w for v, w in weights.items()}}
    values = run([*graph.nodes, *extension.nodes], given, env)
    return {v: values[names[v]] if v in names else np.zeros_like(arrays[v]) for v in sources}


def _check_direction(
    loss: _Loss, arrays: Arrays, source: Value, gradient: NDArrayAny, rng: np.random.Generator, tolerance: float
) -> None:
    assert gradient.shape == arrays[source].shape, f"{source}: gradient {gradient.shape}"
    direction = np.asarray(rng.normal(size=arrays[source].shape))
    up, down = (loss({**arrays, source: np.asarray(arrays[source] + s * STEP * direction)}) for s in (1, -1))
    expected = (up - down) / (2 * STEP)
    actual = float(np.sum(gradient * direction))
    scale = max(abs(expected), abs(actual), 1e-3 * (abs(up) + abs(down)), 1e-2)
    assert abs(expected - actual) <= tolerance * scale, (
        f"the gradient of {source}: {actual!r} along a direction, by finite differences {expected!r}"
    )


def check_gradient_form(
    graph: Graph, inputs: Mapping[str, NDArrayAny], *, opset: int, rtol: float, atol: float, seed: int = 0
) -> None:
    """Compares the gradients as ONNX Runtime computes them, in the graph's own element types, with the NumPy rules. The
    tolerances are relative to the largest element. Raises AssertionError where they differ."""
    extension = Extension(graph)
    ends = dict.fromkeys(o.value for o in graph.outputs if o.value.dtype.is_float)
    seeds = {v: Value(extension.names.take("seed"), v.type) for v in ends}
    sources = [v for v in (*graph.inputs, *(p.value for p in graph.parameters)) if v.dtype.is_float]
    found = backward(extension, graph.nodes, seeds, sources)
    outputs = [Output(f"gradient.{v.name}", found[v]) for v in sources if v in found]
    if not outputs:
        return
    nodes = (*graph.nodes, *extension.nodes)
    step = Graph(graph.name, (*graph.inputs, *seeds.values()), tuple(outputs), nodes, graph.parameters)
    rng = np.random.default_rng(seed)
    store = WeightStore(graph.parameters).perturbed()
    ends_only = replace(graph, outputs=tuple(Output(v.name, v) for v in ends))
    shapes = {name: array.shape for name, array in interpret(ends_only, inputs, store).items()}
    arrays = {v.name: rng.normal(size=shapes[end.name]).astype(v.dtype.numpy) for end, v in seeds.items()}
    arrays |= dict(inputs)
    expected = interpret(step, arrays, store)
    actual = Session(to_proto(step, store, opset=opset).SerializeToString(), "cpu", threads=1).run(arrays)
    for name, array in expected.items():
        one, other = array.astype(np.float64), actual[name].astype(np.float64)
        assert actual[name].dtype == array.dtype, f"{name}, opset {opset}"
        largest = float(np.max(np.abs(one[np.isfinite(one)]), initial=0))
        np.testing.assert_allclose(other, one, rtol=rtol, atol=atol + rtol * largest, err_msg=f"{name}, opset {opset}")
