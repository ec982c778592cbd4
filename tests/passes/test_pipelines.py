"""The pipelines: order, rounds, hooks, and that no pass changes what a network computes."""

from __future__ import annotations

from cProfile import Profile
from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import given, settings

from netdsl.cost import graph_cost
from netdsl.ir.dims import symbol
from netdsl.ir.graph import Graph
from netdsl.ir.text import graphs_equal, parse_graph, print_graph
from netdsl.ir.types import DType
from netdsl.ir.verify import VerifyError, verify
from netdsl.ops import PRIMITIVES
from netdsl.passes import PASSES, PIPELINES, RewriteLog, optimize, run_passes
from netdsl.passes.base import Pass
from netdsl.passes.pipelines import PassOrderError, check_order
from tests.passes.support import operators
from tests.strategies.graphs import Net, assert_same_outputs, networks


@settings(max_examples=150, deadline=None)
@given(networks())
def test_levels_keep_the_outputs(graph: Graph) -> None:
    for level in (1, 2):
        result = optimize(graph, level, check=True)
        assert_same_outputs(graph, result)
        assert graphs_equal(parse_graph(print_graph(result), PRIMITIVES), result)


@settings(max_examples=60, deadline=None)
@given(networks())
def test_every_pass_keeps_the_outputs(graph: Graph) -> None:
    for one in PASSES.values():
        result = one.run(graph, RewriteLog())
        verify(result, PRIMITIVES)
        assert_same_outputs(graph, result)


@settings(max_examples=40, deadline=None)
@given(networks(DType.float32))
def test_float32(graph: Graph) -> None:
    assert_same_outputs(graph, optimize(graph, check=True), rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(networks())
def test_savings_are_what_the_costs_say(graph: Graph) -> None:
    log = RewriteLog()
    before, after = graph_cost(graph), graph_cost(optimize(graph, 2, log))
    assert log.saved.macs == before.macs - after.macs
    assert log.saved.flops == before.flops - after.flops
    assert log.saved.bytes == before.weight_bytes - after.weight_bytes
    for rewrite in log.rewrites:
        assert isinstance(rewrite.saved.flops, int)


@given(networks())
def test_nothing_left_to_do(graph: Graph) -> None:
    done = optimize(graph)
    log = RewriteLog()
    assert optimize(done, 2, log) is done
    assert not list(log.rewrites)


def test_level_0_does_nothing() -> None:
    net = Net()
    graph = net.finish(y=net.op("identity", net.input(2, 3)))
    assert optimize(graph, 0) is graph


def test_orders_are_kept() -> None:
    for passes in PIPELINES.values():
        check_order(passes)


@dataclass(frozen=True)
class Late(Pass):
    name: ClassVar[str] = "late"
    after: ClassVar[tuple[str, ...]] = ("early",)

    def run(self, graph: Graph, log: RewriteLog) -> Graph:
        return Graph(graph.name, graph.inputs, graph.outputs, (), ())


def test_an_order_that_is_not() -> None:
    with pytest.raises(PassOrderError, match="late must run after early"):
        check_order((Late(),))


def test_a_pass_that_breaks_the_graph_is_caught() -> None:
    net = Net()
    graph = net.finish(y=net.op("relu", net.input(2, 3)))
    with pytest.raises(VerifyError):
        run_passes(graph, (Late(),), RewriteLog(), check=True)


def test_hook_sees_each_change() -> None:
    net = Net()
    y = net.op("batch_norm", net.op("conv", net.input(2, 3, 5, 5), channels=4, kernel=1))
    seen: list[tuple[str, list[str]]] = []
    optimize(net.finish(y=net.op("dropout", y)), after=lambda name, g: seen.append((name, operators(g))))
    assert seen == [("dropout", ["conv", "batch_norm"]), ("fold-batch-norm", ["conv"])]


def test_names_of_passes_are_unique_and_documented() -> None:
    names = [p.name for p in PIPELINES[2]]
    assert len(set(names)) == len(names) == len(PASSES)
    assert [p.name for p in PIPELINES[1]] == [n for n in names if n in {p.name for p in PIPELINES[1]}]


def test_a_block_as_people_write_it() -> None:
    """Pre-processing, convolutions with norms, a linear bottleneck, a classifier; symbols stay."""
    net = Net(dtype=DType.float32)
    x = net.input(symbol("N"), 3, 2 * symbol("h"), 2 * symbol("w"))
    y = net.op("relu", net.op("batch_norm", net.op("conv", x, channels=8, kernel=3, padding=1, bias=False)))
    z = net.op("batch_norm", net.op("conv", y, channels=32, kernel=1, bias=False))
    z = net.op("batch_norm", net.op("conv", z, channels=8, kernel=1, bias=False))
    y = net.op("dropout", net.op("relu", net.op("add", [y, z])))
    y = net.op("dense", net.op("flatten", net.op("global_avg_pool", y)), units=5)
    graph = net.finish(y=y)
    result = optimize(graph, check=True)
    assert operators(result) == ["conv", "relu", "conv", "relu", "global_avg_pool", "flatten", "dense"]
    assert result.inputs[0].shape == x.shape
    assert_same_outputs(graph, result, {"N": 2, "h": 3, "w": 4}, rtol=1e-5)


def _chain(count: int, *kinds: str) -> Graph:
    net = Net(dtype=DType.float32)
    y = net.input(1, 4, 8, 8)
    for _ in range(count):
        for kind in kinds:
            more = {"channels": 4, "kernel": 1} if kind == "conv" else {}
            y = net.op(kind, y, **more)
    return net.finish(y=y)


@pytest.mark.parametrize("kinds", [("conv",), ("conv", "batch_norm", "relu"), ("relu", "dropout"), ("batch_norm",)])
def test_long_chains_take_linear_time(kinds: tuple[str, ...]) -> None:
    """Counted in calls, which no other work on the machine disturbs."""
    calls = []
    for count in (250, 1000):
        graph = _chain(count, *kinds)
        with Profile() as profile:
            optimize(graph)
        calls.append(sum(entry.callcount for entry in profile.getstats()))
    assert calls[1] <= 4.1 * calls[0]
