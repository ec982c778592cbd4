"""The textual form: what it prints, and that it reads back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from netdsl.ir.build import GraphBuilder
from netdsl.ir.dims import dim_max, symbol
from netdsl.ir.graph import Graph
from netdsl.ir.initializer import Initializer
from netdsl.ir.opdef import Primitive
from netdsl.ir.text import IRSyntaxError, field_text, graphs_equal, parse_graph, print_graph
from netdsl.ir.types import Array, DType, TensorType
from netdsl.ops import PRIMITIVES
from netdsl.source import Place
from tests.strategies.graphs import Net, networks


@dataclass(frozen=True)
class Bag(Primitive):
    """An operator with an attribute of any kind."""

    value: Any

    name: ClassVar[str] = "test.bag"

    def infer(self) -> TensorType:
        return TensorType(DType.float32, ())


TABLE: Mapping[str, type[Primitive]] = {**PRIMITIVES, Bag.name: Bag}


def _with(value: Any) -> Graph:
    builder = GraphBuilder("G")
    builder.output("y", builder.emit(Bag(value), path="bag"))
    return builder.finish()


def _round_trip(graph: Graph) -> None:
    text = print_graph(graph)
    again = parse_graph(text, TABLE)
    assert graphs_equal(again, graph), text
    assert print_graph(again) == text


_atoms = st.one_of(
    st.integers(),
    st.floats(allow_nan=False),
    st.booleans(),
    st.text(),
    st.none(),
    st.fractions(),
    st.sampled_from(list(DType)),
    st.sampled_from([symbol("N"), 16 * symbol("h") + 3, dim_max(symbol("a"), 7 - symbol("b")), symbol("H") // 2]),
    hnp.arrays(
        st.sampled_from([np.float32, np.float16, np.float64, np.int8, np.uint8, np.int64, np.bool_]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ).map(Array),
)


@given(st.recursive(_atoms, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=8))
def test_attributes(value: Any) -> None:
    _round_trip(_with(value))


ATTRIBUTES = {
    "3": 3,
    "-1": -1,
    "0.1": 0.1,
    "1.0": 1.0,
    "-inf": -np.inf,
    "1e+300": 1e300,
    "true": True,
    "none": None,
    '"a \\"b\\""': 'a "b"',
    "()": (),
    "(1,)": (1,),
    "((1, 2), 3)": ((1, 2), 3),
    "`16*h + 1`": 16 * symbol("h") + 1,
    "bfloat16": DType.bfloat16,
    "bool": DType.bool,
    "2/1": Fraction(2),
    "array(float32[2], [0.1, 1.0])": Array(np.array([0.1, 1], np.float32)),
    "array(bool[], [true])": Array(np.array(True)),
    "array(int64[0], [])": Array(np.zeros(0, np.int64)),
    "array(bfloat16[1], [0.1001])": Array(np.array([0.1], ml_dtypes.bfloat16)),
}


@pytest.mark.parametrize("text", ATTRIBUTES)
def test_attribute_text(text: str) -> None:
    value = ATTRIBUTES[text]
    if "bfloat16[1]" not in text:  # how ml_dtypes prints it is its own matter
        assert field_text(value) == text
    _round_trip(_with(value))


def test_floats_and_large_arrays_to_the_last_bit() -> None:
    rng = np.random.default_rng(0)
    for dtype in (np.float16, np.float32, np.float64, ml_dtypes.bfloat16):
        _round_trip(_with(Array(rng.normal(size=9).astype(dtype))))
        _round_trip(_with(Array(rng.normal(size=(5, 7)).astype(dtype))))
    _round_trip(_with(Array(np.array([np.nan, np.inf], np.float32))))


def test_whole_graph() -> None:
    net = Net("My net", DType.float32, places=True)
    x = net.input(symbol("N"), 3, 2 * symbol("h"), 8)
    y = net.op("batch_norm", net.op("conv", x, channels=2, kernel=2, bias=False, path="stem.conv"))
    graph = net.finish(y=y)
    assert print_graph(graph) == GOLDEN
    _round_trip(graph)


GOLDEN = """graph "My net" {
  input %x: float32[N, 3, 2*h, 8]
  param %stem.conv.weight: float32[2, 3, 2, 2] = he_normal fans(12, 8) loc("net.net":1:1)
  param %batch_norm.weight: float32[2] = ones loc("net.net":2:1)
  param %batch_norm.bias: float32[2] = zeros loc("net.net":2:1)
  buffer %batch_norm.running_mean: float32[2] = zeros loc("net.net":2:1)
  buffer %batch_norm.running_var: float32[2] = ones loc("net.net":2:1)
  %stem.conv: float32[N, 2, 2*h - 1, 7] = conv(%x, %stem.conv.weight) \
{stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1} @stem.conv loc("net.net":1:1)
  %batch_norm: float32[N, 2, 2*h - 1, 7] = batch_norm(%stem.conv, %batch_norm.weight, %batch_norm.bias, \
%batch_norm.running_mean, %batch_norm.running_var) \
{momentum=0.9, epsilon=1e-05, frozen=false} @batch_norm loc("net.net":2:1)
  output y = %batch_norm
}
"""


@given(networks())
def test_networks(graph: Graph) -> None:
    _round_trip(graph)


def test_names_from_anywhere() -> None:
    builder = GraphBuilder('a "b" \\ {')
    x = builder.input("/conv 1/out:0", TensorType(DType.float32, (3,)))
    w = builder.parameter(
        "ü.weight", (3,), Initializer("normal", (0.0, 0.02)), trainable=False, place=Place("a b.net", 1, 2)
    )
    builder.parameter("odd", (), Initializer("zeros"), kind="buffer", trainable=True)
    builder.output("input", builder.emit(PRIMITIVES["add"](), x, w.value, path="%x y"))
    builder.output("", x)
    _round_trip(builder.finish())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('graph "G" { output y = %x }', "1:24: %x is used before it is defined"),
        ('graph "G" {\n %y: float32[] = nonsense() }', "2:18: no operator is called nonsense"),
        ('graph "G" {\n %y: float32[1] = relu() {size=3} }', "2:19: relu has no attribute size"),
        ('graph "G" { input %x: float32[] input %x: int8[] }', "1:39: %x is defined twice"),
        ('graph "G" { input %x: float32[N +] }', "1:23: "),
        ('graph "G" { input x }', "1:19: unexpected text"),
        ('graph "G" { %c: int8[] = cast() }', "1:26: cast: "),
        ("", "1:1: unexpected text"),
    ],
)
def test_errors(text: str, message: str) -> None:
    with pytest.raises(IRSyntaxError) as error:
        parse_graph(text, TABLE)
    assert str(error.value).startswith(message)


def test_equality_sees_every_part() -> None:
    text = GOLDEN
    graph = parse_graph(text, TABLE)
    for old, new in [
        ("he_normal", "zeros"),
        ("fans(12, 8)", "fans(12, 9)"),
        ("float32[N, 3", "float64[N, 3"),
        ("output y", "output z"),
        ("@stem.conv", "@stem"),
        ("epsilon=1e-05", "epsilon=1e-04"),
        ('"net.net":1:1', '"net.net":1:2'),
        ('"My net"', '"Mine"'),
        ("buffer %batch_norm.running_var", "param %batch_norm.running_var"),
    ]:
        assert not graphs_equal(graph, parse_graph(text.replace(old, new), TABLE)), old
