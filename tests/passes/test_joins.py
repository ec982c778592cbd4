"""Concats, splits and slices in front of one another."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdsl.ir.dims import symbol
from netdsl.ir.graph import Value
from netdsl.ir.initializer import Initializer
from netdsl.ops.dense import MatMul
from netdsl.ops.indexing import Slice
from netdsl.passes import RewriteLog, optimize
from netdsl.passes.joins import Joins
from netdsl.passes.slices import Slices
from tests.passes.support import operators, run
from tests.strategies.graphs import Net, assert_same_outputs


def _operands(net: Net, *channels: int) -> list[Value]:
    x = net.input(2, sum(channels), 5, 7)
    return [net.op("relu", part) for part in net.op("split", x, parts=list(channels))]


def test_a_split_in_the_middle_of_a_concat() -> None:
    net = Net()
    x = net.input(2, 6, 5, 7)
    a, b = net.op("split", x, parts=[2, 4])
    y = net.op("concat", [net.op("relu", x), a, b, net.op("tanh", x)])
    result = run(Joins(), net.finish(y=y, z=a))[0]
    assert operators(result) == ["split", "relu", "tanh", "concat"]
    assert len(next(n for n in result.nodes if n.op.name == "concat").inputs) == 3


@pytest.mark.parametrize(
    ("given_sizes", "wanted", "left"),
    [
        ((2, 3, 4), (5, 4), ["concat"]),
        ((2, 3, 4), (2, 7), ["concat"]),
        ((6, 3), (2, 4, 3), ["split"]),
        ((4, 4), (2, 2, 2, 2), ["split", "split"]),
        ((2, 3, 4), (2, 3, 4), []),
        ((2, 3, 4), (3, 6), ["concat", "split"]),
        ((2, 2, 2, 2, 2, 2), (4, 4, 4), ["concat", "split"]),  # three joins would be more nodes
    ],
)
def test_cuts_at_the_seams(given_sizes: tuple[int, ...], wanted: tuple[int, ...], left: list[str]) -> None:
    net = Net()
    joined = net.op("concat", _operands(net, *given_sizes))
    parts = net.op("split", joined, parts=list(wanted))
    graph = net.finish(**{f"y{i}": net.op("tanh", p) for i, p in enumerate(parts)})
    result = run(Joins(), graph)[0]
    found = [o for o in operators(result) if o in ("concat", "split")]
    assert sorted(found[1:]) == sorted(left)  # the first split makes the operands


def test_a_concat_that_others_read_is_made_all_the_same() -> None:
    net = Net()
    joined = net.op("concat", _operands(net, 4, 4))
    parts = net.op("split", joined, parts=4)
    graph = net.finish(z=joined, **{f"y{i}": p for i, p in enumerate(parts)})
    assert run(Joins(), graph)[0] is graph


_CUT = st.tuples(st.integers(0, 4), st.integers(1, 12), st.integers(1, 3))


@settings(max_examples=80, deadline=None)
@given(st.lists(_CUT, min_size=2, max_size=3), st.integers(0, 1))
def test_slices_of_slices(cuts: list[tuple[int, int, int]], shift: int) -> None:
    net = Net()
    x = net.input(2, 12, 13, 3)
    for i, (start, length, step) in enumerate(cuts):
        axis = 1 + (i * shift) % 2
        size = int(str(x.shape[axis]))
        start = min(start, size - 1)
        x = net.emit(Slice((start,), (min(start + length, size),), (axis,), (step,)), x)
    graph = net.finish(y=x)
    result = optimize(graph, check=True)
    assert operators(result).count("slice") <= 1
    assert_same_outputs(graph, result)


def test_symbolic_slices() -> None:
    net = Net()
    x = net.op("relu", net.input(symbol("N"), 6, 2 * symbol("h") + 3, 5))
    y = net.emit(Slice((1,), (2 * symbol("h") + 2,), (2,), (1,)), x)
    graph = net.finish(y=net.emit(Slice((0, 1), (2 * symbol("h"), 4), (2, 3), (2, 1)), y))
    result = Slices().run(graph, RewriteLog())
    assert_same_outputs(graph, result, {"N": 2, "h": 3})
    assert operators(result) == ["relu", "slice"]
    assert result.outputs[0].value.shape == graph.outputs[0].value.shape


@pytest.mark.parametrize(("start", "end", "left"), [(0, 2, []), (2, 4, []), (2, 3, ["slice"]), (1, 3, ["slice"])])
def test_a_slice_of_a_concat(start: int, end: int, left: list[str]) -> None:
    net = Net()
    a, b = _operands(net, 2, 2)
    y = net.emit(Slice((start,), (end,), (1,), (1,)), net.op("concat", [a, b]))
    graph = net.finish(y=net.op("tanh", y))
    result = optimize(graph, check=True)
    assert [o for o in operators(result) if o == "slice"] == left
    assert ("concat" in operators(result)) is ((start, end) == (1, 3))
    assert_same_outputs(graph, result)


def test_a_slice_backwards_stays() -> None:
    net = Net()
    x = net.op("relu", net.input(2, 12, 3, 3))
    y = net.emit(Slice((8,), (-1,), (1,), (-2,)), x)
    graph = net.finish(y=net.emit(Slice((1,), (3,), (1,), (1,)), y))
    assert Slices().run(graph, RewriteLog()) is graph


def test_products_in_a_row_are_one() -> None:
    net = Net()
    x = net.input(3, 4)
    y = net.emit(MatMul(), x, _weight(net, "a", (4, 20)))
    y = net.emit(MatMul(), y, _weight(net, "b", (20, 2)))
    graph = net.finish(y=y)
    result = optimize(graph, check=True)
    assert operators(result) == ["dense"]
    assert_same_outputs(graph, result)


def _weight(net: Net, name: str, shape: tuple[int, ...]) -> Value:
    return net.layer(name).parameter("weight", shape, Initializer("normal", (0.0, 1.0)), dtype=net.dtype)
