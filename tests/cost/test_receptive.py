"""Receptive fields against arithmetic by hand, and against what really reaches an output."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netdsl.cost import ReceptiveField, receptive_fields
from netdsl.ir.dims import symbol
from netdsl.ir.graph import Graph, Value
from netdsl.ir.types import DType
from tests.strategies.graphs import Net, evaluate, random_weights


def _field(graph: Graph) -> ReceptiveField:
    return receptive_fields(graph)[graph.outputs[0].value]


def _one(size: int, stride: int | Fraction, offset: int | Fraction) -> ReceptiveField:
    return ReceptiveField((size,), (Fraction(stride),), (Fraction(offset),))


def test_vgg_style_chain() -> None:
    net = Net(dtype=DType.float32)
    y = net.input(1, 1, 64)
    for _ in range(2):
        y = net.op("conv", net.op("conv", y, channels=1, kernel=3, padding=1), channels=1, kernel=3, padding=1)
        y = net.op("max_pool", net.op("relu", y), kernel=2)
    assert _field(net.finish(y=y)) == _one(16, 4, -6)


def test_residual_takes_the_hull() -> None:
    net = Net()
    x = net.input(1, 1, 32)
    y = net.op("conv", x, channels=1, kernel=5, padding=((4, 0),))
    z = net.op("conv", x, channels=1, kernel=3, padding=((0, 2),))
    assert _field(net.finish(y=net.op("add", [y, z]))) == _one(7, 1, -4)


def test_global_pooling_sees_everything() -> None:
    net = Net()
    y = net.op("global_avg_pool", net.op("conv", net.input(1, 1, 32, 48), channels=2, kernel=3))
    graph = net.finish(y=net.op("dense", net.op("flatten", y), units=3))
    assert _field(graph).size == (32, 48)
    assert _field(graph).stride == (0, 0)


def test_everything_of_a_symbolic_size_is_unknown() -> None:
    net = Net()
    y = net.op("global_avg_pool", net.input(1, 1, symbol("H"), 48))
    assert _field(net.finish(y=y)).size == (None, 48)


def test_values_without_space_have_no_field() -> None:
    net = Net()
    x = net.input(2, 3)
    assert receptive_fields(net.finish(y=net.op("dense", x, units=4))) == {}


def _measured(graph: Graph, size: int) -> dict[int, tuple[int, int]]:
    """For each output position that sees any, the first and last input pixel that changes it."""
    weights = {name: np.abs(w) + 0.1 for name, w in random_weights(graph).items()}
    base = np.zeros((1, 1, size))
    before = evaluate(graph, {"x": base}, weights)["y"][0, 0]
    seen: dict[int, list[int]] = {}
    for pixel in range(size):
        poked = base.copy()
        poked[0, 0, pixel] = 1
        after = evaluate(graph, {"x": poked}, weights)["y"][0, 0]
        for position in np.flatnonzero(after != before):
            seen.setdefault(int(position), []).append(pixel)
    return {i: (min(pixels), max(pixels)) for i, pixels in seen.items()}


def _layer(net: Net, x: Value, kind: str, kernel: int, stride: int, padding: int) -> Value:
    if kind == "conv_transpose":
        return net.op(kind, x, channels=1, kernel=max(kernel, stride), stride=stride)
    if kind == "avg_pool":
        return net.op(kind, x, kernel=max(kernel, padding + 1), stride=stride, padding=padding)
    return net.op(kind, x, channels=1, kernel=kernel, stride=stride, padding=padding, dilation=2)


_layers = st.tuples(st.sampled_from(["conv", "avg_pool"]), st.integers(1, 3), st.integers(1, 2), st.integers(0, 1))


@given(st.lists(_layers, min_size=1, max_size=3))
def test_against_what_reaches_an_output(layers: list[tuple[str, int, int, int]]) -> None:
    net = Net()
    size = 48
    y = net.input(1, 1, size)
    for layer in layers:
        y = _layer(net, y, *layer)
    graph = net.finish(y=y)
    field = _field(graph)
    (extent,), (stride,), (offset,) = field.size, field.stride, field.offset
    assert extent is not None
    for position, (first, last) in _measured(graph, size).items():
        start = position * stride + offset
        assert first == max(start, 0) or (start < 0 and first >= 0)
        assert last == min(start + extent - 1, size - 1) or start + extent > size


@pytest.mark.parametrize("stride", [2, 3])
def test_transposed_convolution_shrinks_the_stride(stride: int) -> None:
    net = Net()
    y = net.op("conv_transpose", net.input(1, 1, 12), channels=1, kernel=stride, stride=stride)
    assert _field(net.finish(y=y)).stride == (Fraction(1, stride),)
