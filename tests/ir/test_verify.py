"""The verifier finds each broken promise and names the node."""

from __future__ import annotations

import pytest

from netdsl.ir.graph import Graph, Node, Output, Value
from netdsl.ir.text import parse_graph
from netdsl.ir.types import DType, TensorType
from netdsl.ir.verify import VerifyError, verify
from netdsl.ops import PRIMITIVES
from netdsl.ops.activation import Relu
from tests.strategies.graphs import Net

TYPE = TensorType(DType.float32, (2, 3))


def _graph(nodes: list[Node], outputs: list[Output], inputs: list[Value]) -> Graph:
    return Graph("G", tuple(inputs), tuple(outputs), tuple(nodes), ())


def test_good() -> None:
    net = Net()
    verify(net.finish(y=net.op("relu", net.op("conv", net.input(2, 3, 5, 7), channels=4, kernel=3))), PRIMITIVES)


def test_order() -> None:
    x, y, z = (Value(n, TYPE) for n in "xyz")
    first, second = Node(Relu(), (x,), (y,), "a"), Node(Relu(), (y,), (z,), "b")
    with pytest.raises(VerifyError, match=r"%z = Relu\(\)\(%y\) reads %y, which nothing before it makes"):
        verify(_graph([second, first], [Output("z", z)], [x]))


def test_names() -> None:
    x, y = Value("x", TYPE), Value("x", TYPE)
    with pytest.raises(VerifyError, match="the name %x is taken twice"):
        verify(_graph([Node(Relu(), (x,), (y,), "a")], [], [x]))


def test_output_from_nowhere() -> None:
    with pytest.raises(VerifyError, match="output y is %gone, which nothing makes"):
        verify(_graph([], [Output("y", Value("gone", TYPE))], []))


def test_outputs_of_one_name() -> None:
    x = Value("x", TYPE)
    with pytest.raises(VerifyError, match="two outputs are called y"):
        verify(_graph([], [Output("y", x), Output("y", x)], [x]))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%y: float32[2, 4] = relu(%x)", r"says float32\[2, 4\], but its operator infers float32\[2, 3\]"),
        ("%y: float32[2, 3] = transpose(%x) {axes=(0, 2)}", "does not type: transpose: "),
        ("%y: float32[6] = flatten(%x) {start=0, end=5}", "does not type: flatten: axis 5 is out of range"),
    ],
)
def test_types(line: str, message: str) -> None:
    graph = parse_graph(f'graph "G" {{ input %x: float32[2, 3] {line} output y = %y }}', PRIMITIVES)
    with pytest.raises(VerifyError, match=message):
        verify(graph, PRIMITIVES)


def test_operator_that_the_table_lacks() -> None:
    x, y = Value("x", TYPE), Value("y", TYPE)
    graph = _graph([Node(Relu(), (x,), (y,), "a")], [Output("y", y)], [x])
    with pytest.raises(VerifyError, match="no operator of the table is called relu"):
        verify(graph, {})


KEPT = (
    "non_max_suppression(%b, %s) {max_output_boxes_per_class=none, iou_threshold=0.5, score_threshold=none,"
    " center_point_box=false, rows=`kept?`}"
)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (f"%k: int64[kept?, 3] = {KEPT} %n: int64[] = dimension() {{dim=`kept?`}}", None),
        (
            f"%n: int64[] = dimension() {{dim=`kept?`}} %k: int64[kept?, 3] = {KEPT}",
            r"names kept\?, which nothing before it finds",
        ),
        (f"%k: int64[kept?, 3] = {KEPT} %n: int64[kept?, 3] = {KEPT}", r"finds kept\?, which is found before it"),
    ],
)
def test_counts(lines: str, message: str | None) -> None:
    text = f'graph "G" {{ input %b: float32[N, 5, 4] input %s: float32[N, 2, 5] {lines} output y = %n }}'
    graph = parse_graph(text, PRIMITIVES)
    if message is None:
        verify(graph, PRIMITIVES)
        return
    with pytest.raises(VerifyError, match=message):
        verify(graph, PRIMITIVES)
