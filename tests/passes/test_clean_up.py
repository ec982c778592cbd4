"""Identities, pairs, joins, dropout, common subexpressions, dead code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from netdsl.cost import with_symbols
from netdsl.ir.dims import symbol
from netdsl.ir.graph import Output
from netdsl.ir.text import parse_graph
from netdsl.ops import PRIMITIVES
from netdsl.passes.common import CommonSubexpressions
from netdsl.passes.dead_code import DeadCode
from netdsl.passes.dropout import RemoveDropout
from netdsl.passes.fold_constants import FoldConstants
from netdsl.passes.identities import MergePairs, RemoveIdentities
from netdsl.passes.joins import Joins
from netdsl.passes.log import RewriteLog
from netdsl.passes.matmul_to_dense import MatMulToDense
from tests.passes.support import check_text, operators, run
from tests.strategies.graphs import Net, random_inputs

SHAPE = (2, 3, 4, 5)


def _arithmetic(name: str, number: float, flip: bool = False) -> Any:
    def build(net: Net, x: Any) -> Any:
        constant = net.constant(np.full((3, 1, 1), number))
        return net.emit(PRIMITIVES[name](), *((constant, x) if flip else (x, constant)))

    return build


IDENTITIES = {
    "identity": lambda net, x: net.op("identity", x),
    "x*1": _arithmetic("mul", 1),
    "1*x": _arithmetic("mul", 1, flip=True),
    "x+0": _arithmetic("add", 0),
    "0+x": _arithmetic("add", 0, flip=True),
    "x-0": _arithmetic("sub", 0),
    "x/1": _arithmetic("div", 1),
    "x**1": _arithmetic("pow", 1),
    "cast": lambda net, x: net.op("cast", x, dtype=net.dtype),
    "reshape": lambda net, x: net.op("reshape", x, shape=SHAPE),
    "flatten": lambda net, x: net.op("flatten", x, start=1, end=1),
    "expand": lambda net, x: net.op("expand", x, shape=SHAPE),
    "tile": lambda net, x: net.op("tile", x, repeats=(1, 1, 1, 1)),
    "transpose": lambda net, x: net.op("transpose", x, axes=(0, 1, 2, 3)),
    "max_pool": lambda net, x: net.op("max_pool", x, kernel=1),
    "avg_pool": lambda net, x: net.op("avg_pool", x, kernel=1),
    "adaptive": lambda net, x: net.op("adaptive_avg_pool", x, size=(4, 5)),
    "concat": lambda net, x: net.emit(PRIMITIVES["concat"](1), x),
    "split": lambda net, x: net.op("split", x, parts=1)[0],
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_identity(name: str) -> None:
    net = Net()
    y = IDENTITIES[name](net, net.op("exp", net.input(*SHAPE)))
    assert operators(run(RemoveIdentities(), net.finish(y=y))[0]) == ["exp"]


NO_IDENTITIES = {
    "x*2": _arithmetic("mul", 2),
    "0-x": _arithmetic("sub", 0, flip=True),
    "1/x": _arithmetic("div", 1, flip=True),
    "1**x": _arithmetic("pow", 1, flip=True),
    "reshape": lambda net, x: net.op("reshape", x, shape=(2, 3, 5, 4)),
    "strided pool": lambda net, x: net.op("max_pool", x, kernel=1, stride=2),
    "x*ones that broadcast x": lambda net, x: net.op("multiply", [x, net.constant(np.ones((7, 1, 1, 1, 1)))]),
}


@pytest.mark.parametrize("name", NO_IDENTITIES)
def test_no_identity(name: str) -> None:
    net = Net()
    graph = net.finish(y=NO_IDENTITIES[name](net, net.op("exp", net.input(*SHAPE))))
    assert run(RemoveIdentities(), graph)[0] is graph


def test_relu_of_what_is_not_negative() -> None:
    net = Net()
    y = net.op("relu", net.input(*SHAPE))
    y = net.op("relu", net.op("max_pool", net.op("relu", y), kernel=2))
    assert operators(run(RemoveIdentities(), net.finish(y=y))[0]) == ["relu", "max_pool"]


def test_transposes_and_reshapes() -> None:
    net = Net()
    x = net.input(*SHAPE)
    y = net.op("transpose", net.op("transpose", x, axes=(0, 2, 3, 1)), axes=(0, 3, 1, 2))
    z = net.op("transpose", net.op("transpose", x, axes=(1, 0, 2, 3)), axes=(0, 2, 1, 3))
    w = net.op("flatten", net.op("reshape", net.op("unsqueeze", x, axes=(0,)), shape=(6, 4, 5)))
    result, _ = run(MergePairs(), net.finish(y=y, z=z, w=w))
    assert operators(result) == ["transpose", "reshape"]


def test_text_of_a_merged_pair() -> None:
    lines = ['graph "T" {', "input %x: float64[2, 3, 4]"]
    before = [
        *lines,
        "%a: float64[4, 2, 3] = transpose(%x) {axes=(2, 0, 1)} @a",
        "%b: float64[3, 2, 4] = transpose(%a) {axes=(2, 1, 0)} @b",
        "output y = %b",
        "}",
    ]
    after = [*lines, "%b: float64[3, 2, 4] = transpose(%x) {axes=(1, 0, 2)} @b", "output y = %b", "}"]
    log = check_text(MergePairs(), "\n".join(before), "\n".join(after))
    assert [r.what for r in log.rewrites] == ["merged with transpose a"]


def test_joins() -> None:
    net = Net()
    x, y = net.input(*SHAPE), net.input(*SHAPE, name="x2")
    nested = net.op("concat", [net.op("concat", [x, y]), net.op("relu", x)])
    again = net.op("concat", list(net.op("split", x, parts=3)))
    first, second = net.op("split", net.op("concat", [x, y]), parts=2)
    result, _ = run(Joins(), net.finish(a=nested, b=again, c=first, d=second))
    assert operators(result) == ["relu", "concat"]
    assert len(next(n for n in result.nodes if n.op.name == "concat").inputs) == 3


def test_joins_of_another_axis_or_order_stay() -> None:
    net = Net()
    x = net.input(2, 4, 6)
    a, b = net.op("split", x, parts=2)
    graph = net.finish(y=net.op("concat", [b, a]), z=net.op("concat", [a, b], axis=2))
    assert run(Joins(), graph)[0] is graph


def test_dropout() -> None:
    net = Net()
    y = net.op("drop_path", net.op("dropout", net.op("exp", net.input(*SHAPE))), rate=0.1)
    assert operators(run(RemoveDropout(), net.finish(y=y))[0]) == ["exp"]


def test_common_subexpressions() -> None:
    net = Net()
    x, y = net.input(*SHAPE), net.input(*SHAPE, name="x2")
    add = PRIMITIVES["add"]()
    a = net.op("relu", net.emit(add, x, y))
    b = net.op("relu", net.emit(add, y, x))
    c = net.emit(PRIMITIVES["sub"](), x, y)
    d = net.emit(PRIMITIVES["sub"](), y, x)
    result, log = run(CommonSubexpressions(), net.finish(a=a, b=b, c=c, d=d))
    assert operators(result) == ["add", "relu", "sub", "sub"]
    assert [r.what for r in log.rewrites] == ["is the same add as add", "is the same relu as relu"]


def test_dropouts_are_not_common() -> None:
    net = Net()
    x = net.input(*SHAPE)
    graph = net.finish(a=net.op("dropout", x), b=net.op("dropout", x))
    assert run(CommonSubexpressions(), graph)[0] is graph


def test_constants_are_evaluated_where_they_do_not_grow() -> None:
    net = Net()
    x = net.input(2, 3)
    two = net.op("sqrt", net.op("exp", net.op("log", net.constant(4.0))))
    wide = net.op("expand", net.constant(np.float64(1)), shape=(50, 2, 3))
    scaled = net.emit(PRIMITIVES["mul"](), x, two)
    graph = net.finish(y=net.op("add", [scaled, wide]), z=net.op("relu", two))
    result, log = run(FoldConstants(), graph)
    assert [n.op.name for n in result.nodes] == [
        "constant_tensor",
        "mul",
        "constant_tensor",
        "expand",
        "add",
        "constant_tensor",
    ]
    assert [r.path for r in log.rewrites] == ["log", "exp", "sqrt", "relu"]


def test_a_dimension_with_a_value_is_a_constant() -> None:
    net = Net()
    x = net.input(symbol("N"), 3)
    batch = net.layer("n").dimension(symbol("N"), net.dtype)
    graph = net.finish(y=net.emit(PRIMITIVES["mul"](), x, batch))
    assert FoldConstants().run(graph, RewriteLog()) is graph
    bound = with_symbols(graph, {"N": 4})
    result, _ = run(FoldConstants(), bound)
    assert operators(result) == ["mul"]


def test_dead_code_takes_parameters_along() -> None:
    net = Net()
    x = net.input(2, 3, 4, 5)
    net.op("relu", net.op("conv", x, channels=4, kernel=1))
    y = net.op("conv", x, channels=2, kernel=1)
    result, log = run(DeadCode(), net.finish(y=y))
    assert [p.name for p in result.parameters] == ["conv_2.weight", "conv_2.bias"]
    assert [r.path for r in log.rewrites] == ["relu", "conv", "conv.weight", "conv.bias"]
    assert next(iter(random_inputs(result))) == "x"


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 5)], ids=str)
def test_matmul_before_a_bias_becomes_dense(shape: tuple[int, ...]) -> None:
    net = Net()
    w, b = net.constant(np.arange(20.0).reshape(5, 4)), net.constant(np.arange(4.0))
    y = net.op("add", [net.op("matmul", net.input(*shape), w), b])
    assert operators(run(MatMulToDense(), net.finish(y=y))[0]) == ["dense", "add"]


def test_lone_matmul_stays() -> None:
    net = Net()
    graph = net.finish(y=net.op("matmul", net.input(3, 5), net.constant(np.ones((5, 4)))))
    assert run(MatMulToDense(), graph)[0] is graph


SUPPRESSION = (
    "non_max_suppression(%b, %s) {max_output_boxes_per_class=none, iou_threshold=0.5, score_threshold=none,"
    " center_point_box=false, rows=`kept?`}"
)


def test_what_finds_a_count_stays_while_the_count_is_named() -> None:
    """`%n` reads nothing, and needs the suppression all the same."""
    graph = parse_graph(
        f"""
        graph "G" {{
          input %b: float32[3, 5, 4]
          input %s: float32[3, 2, 5]
          %same: float32[3, 5, 4] = identity(%b)
          %k: int64[kept?, 3] = {SUPPRESSION.replace("%b", "%same")}
          %unread: int64[3, kept?] = transpose(%k) {{axes=(1, 0)}}
          %n: int64[] = dimension() {{dim=`kept?`}}
          output n = %n
        }}
        """,
        PRIMITIVES,
    )
    for one in (RemoveIdentities(), DeadCode()):
        graph, _ = run(one, graph)
    assert operators(graph) == ["non_max_suppression", "dimension"]
    unnamed = replace(graph, outputs=(Output("b", graph.inputs[0]),))
    assert operators(run(DeadCode(), unnamed)[0]) == []
