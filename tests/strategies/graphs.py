"""Graphs for tests: a small builder, random weights, the NumPy rules over a graph, random convolutional networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from netdsl.ir import dims
from netdsl.ir.build import GraphBuilder
from netdsl.ir.dims import Dim
from netdsl.ir.graph import Graph, Value
from netdsl.ir.types import Array, DType, NDArrayAny, TensorType
from netdsl.ops import OPERATORS
from netdsl.ops.constant import Constant
from netdsl.ops.layer import Layer
from netdsl.runtime.interpret import run_node
from netdsl.source import Place

Arrays = dict[str, NDArrayAny]


class Net:
    """Builds a graph layer by layer, as elaboration does; layer k stands in line k of its file."""

    def __init__(self, name: str = "Net", dtype: DType = DType.float64, *, places: bool = False) -> None:
        self.builder = GraphBuilder(name)
        self.dtype = dtype
        self.places = places
        self.paths: dict[str, int] = {}

    def input(self, *shape: Dim, name: str = "x") -> Value:
        return self.builder.input(name, TensorType(self.dtype, shape))

    def layer(self, name: str) -> Layer:
        count = self.paths[name] = self.paths.get(name, 0) + 1
        line = sum(self.paths.values())
        place = Place("net.net", line, 1) if self.places else None
        return Layer(self.builder, name if count == 1 else f"{name}_{count}", place)

    def op(self, name: str, *tensors: Any, path: str | None = None, **arguments: Any) -> Any:
        """Calls an operator of the language; arguments not given take their defaults."""
        operator = OPERATORS[name]
        values = dict(zip((p.name for p in operator.signature), tensors, strict=False)) | arguments
        for parameter in operator.signature:
            if parameter.name not in values:
                default = values[parameter.default_from] if parameter.default_from else parameter.default
                values[parameter.name] = default
            values[parameter.name] = parameter.kind.convert(values[parameter.name])
        return operator.call(self.layer(path or name), **values)

    def emit(self, op: Any, *inputs: Value, path: str | None = None) -> Value:
        return self.layer(path or op.name).emit(op, *inputs)

    def constant(self, data: Any) -> Value:
        return self.emit(Constant(Array(np.asarray(data).astype(self.dtype.numpy))), path="constant")

    def finish(self, **outputs: Value) -> Graph:
        for name, value in outputs.items():
            self.builder.output(name, value)
        return self.builder.finish()


def random_weights(graph: Graph, seed: int = 0) -> Arrays:
    """A weight for each parameter, variances positive, nothing at its neutral value."""
    rng = np.random.default_rng(seed)
    result = {}
    for parameter in graph.parameters:
        draw = rng.normal(0, 0.5, [int(str(d)) for d in parameter.value.shape])
        if parameter.name.endswith("running_var"):
            draw = np.abs(draw) + 0.3
        result[parameter.name] = draw.astype(parameter.value.dtype.numpy)
    return result


def random_inputs(graph: Graph, env: Mapping[str, int] | None = None, seed: int = 1) -> Arrays:
    rng = np.random.default_rng(seed)
    found = {}
    for value in graph.inputs:
        shape = [dims.evaluate(d, env or {}) for d in value.shape]
        found[value.name] = rng.normal(0, 1, shape).astype(value.dtype.numpy)
    return found


def evaluate(graph: Graph, inputs: Arrays, weights: Arrays, env: Mapping[str, int] | None = None) -> Arrays:
    """The outputs by the operators' NumPy rules."""
    values: dict[Value, NDArrayAny] = {v: inputs[v.name] for v in graph.inputs}
    values |= {p.value: weights[p.name] for p in graph.parameters}
    known = dict(env or {})
    for node in graph.nodes:
        values.update(zip(node.outputs, run_node(node, values, known), strict=True))
    return {o.name: values[o.value] for o in graph.outputs}


def assert_same_outputs(before: Graph, after: Graph, env: Mapping[str, int] | None = None, rtol: float = 1e-9) -> None:
    """The same weights and inputs through both graphs, elements compared to the largest of their output."""
    weights, inputs = random_weights(before), random_inputs(before, env)
    expected, found = (evaluate(g, inputs, weights, env) for g in (before, after))
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        assert found[name].shape == array.shape
        limit = rtol * max(1.0, float(np.max(np.abs(array), initial=0)))
        np.testing.assert_allclose(found[name], array, rtol=rtol, atol=limit, err_msg=name)


_KINDS = (
    "conv",
    "conv",
    "conv",
    "batch_norm",
    "batch_norm",
    "scalar",
    "channel",
    "join",
    "branches",
    "pad",
    "pool",
    "other",
)
_KERNELS = st.sampled_from([1, 1, 2, 3])


@st.composite
def networks(draw: st.DrawFn, dtype: DType = DType.float64, steps: int = 8) -> Graph:
    """Small convolutional networks: chains with residuals, joins, normalisations, constants and everything that passes
    look for, on inputs whose sizes all differ."""
    net = Net(dtype=dtype, places=True)
    x = net.input(2, draw(st.integers(1, 4)), 7, 9)
    values = [x]
    for _ in range(draw(st.integers(1, steps))):
        values.append(_step(draw, net, values))
    outputs = {"y": values[-1]}
    if draw(st.booleans()):
        outputs["z"] = draw(st.sampled_from(values))
    if draw(st.booleans()):
        flat = net.op("flatten", values[-1])
        outputs["d"] = _head(draw, net, flat)
    return net.finish(**outputs)


def _head(draw: st.DrawFn, net: Net, x: Value) -> Value:
    for _ in range(draw(st.integers(1, 3))):
        x = net.op("dense", x, units=draw(st.integers(1, 4)), bias=draw(st.booleans()))
        if draw(st.booleans()):
            x = net.op("batch_norm", x)
    return x


def _step(draw: st.DrawFn, net: Net, values: list[Value]) -> Value:
    x = draw(st.sampled_from(values[-2:]))
    kind = draw(st.sampled_from(_KINDS))
    if kind == "conv":
        return _conv(draw, net, x)
    if kind == "batch_norm":
        return net.op("batch_norm", x, epsilon=draw(st.sampled_from([1e-5, 1e-3])))
    if kind in ("scalar", "channel"):
        shape = () if kind == "scalar" else (x.shape[1], 1, 1)
        number = draw(st.sampled_from([0.0, 1.0, 2.5, -0.75]))
        constant = net.constant(np.full(shape, number if number or kind == "scalar" else 0.5))
        operator = draw(st.sampled_from(["add", "mul", "sub"]))
        flip = draw(st.booleans())
        return _binary(net, operator, *((constant, x) if flip else (x, constant)))
    if kind == "join":
        return _join(draw, net, x, values)
    if kind == "branches":
        return _branches(draw, net, x)
    if kind == "pool":
        pool = draw(st.sampled_from(["avg_pool", "max_pool"]))
        return net.op(pool, x, kernel=3, stride=1, padding=1)
    if kind == "pad":
        return net.op(
            "pad", x, padding=draw(st.sampled_from([1, ((1, 0), (0, 2))])), value=draw(st.sampled_from([0.0, 1.0]))
        )
    return net.op(draw(st.sampled_from(["relu", "identity", "dropout", "relu6"])), x)


def _branches(draw: st.DrawFn, net: Net, x: Value) -> Value:
    """A sum of what convolutions of one output size, norms and activations make of one value."""
    channels = int(str(x.shape[1]))
    kinds = draw(st.lists(st.sampled_from(["3x3", "1x1", "1x3", "norm", "same", "relu"]), min_size=2, max_size=4))
    terms = []
    for kind in kinds:
        if kind == "same":
            terms.append(x)
        elif kind in ("norm", "relu"):
            terms.append(net.op("batch_norm" if kind == "norm" else "relu", x))
        else:
            kernel = (int(kind[0]), int(kind[2]))
            padding = tuple(k // 2 for k in kernel)
            terms.append(net.op("conv", x, channels=channels, kernel=kernel, padding=padding, bias=draw(st.booleans())))
    return net.op("add", terms)


def _binary(net: Net, name: str, a: Value, b: Value) -> Value:
    from netdsl.ops.arithmetic import Add, Mul, Sub

    return net.emit({"add": Add(), "mul": Mul(), "sub": Sub()}[name], a, b)


def _join(draw: st.DrawFn, net: Net, x: Value, values: list[Value]) -> Value:
    fitting = [v for v in values if v.shape == x.shape]
    other = draw(st.sampled_from(fitting))
    if draw(st.booleans()):
        return _binary(net, "add", x, other)
    return net.op("concat", [x, other])


def _conv(draw: st.DrawFn, net: Net, x: Value) -> Value:
    channels, room = int(str(x.shape[1])), min(int(str(d)) for d in x.shape[2:])
    kernel, padding = draw(_KERNELS), draw(st.integers(0, 1))
    dilation = draw(st.integers(1, 2))
    if (kernel - 1) * dilation + 1 > room + 2 * padding:
        kernel = 1
    groups = draw(st.sampled_from([g for g in (1, 1, 2, channels) if channels % g == 0]))
    return net.op(
        "conv",
        x,
        channels=groups * draw(st.integers(1, 3)),
        kernel=kernel,
        padding=padding,
        stride=draw(st.sampled_from([1, 1, 2])),
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
    )
