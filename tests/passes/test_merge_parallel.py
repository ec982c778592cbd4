"""Layers of one input become one layer and a split, where that costs less."""

from __future__ import annotations

from cProfile import Profile
from typing import Any

import numpy as np
import pytest

from netdsl.cost import graph_cost
from netdsl.ir.dims import symbol
from netdsl.ir.graph import Graph, Value
from netdsl.ir.initializer import Initializer
from netdsl.ops import PRIMITIVES
from netdsl.passes import RewriteLog, optimize
from netdsl.passes.merge_parallel import MergeParallel
from tests.passes.support import operators, refusals, run
from tests.strategies.graphs import Net, assert_same_outputs


def _convs(net: Net, x: Value, *channels: int, **more: Any) -> list[Value]:
    return [net.op("conv", x, channels=c, **({"kernel": 1} | more)) for c in channels]


def test_convolutions_that_are_joined_need_no_split() -> None:
    net = Net()
    a, b, c = _convs(net, net.input(2, 6, 5, 7), 4, 3, 2)
    graph = net.finish(y=net.op("concat", [b, c, a]))
    result = optimize(graph, check=True)
    assert operators(result) == ["conv"]
    assert_same_outputs(graph, result)


def test_inception() -> None:
    """1x1 convolutions with activations; the others in a row behind them; the pool's own stays apart."""
    net = Net()
    x = net.input(2, 12, 5, 7)
    one, three, five = (net.op("relu", v) for v in _convs(net, x, 4, 3, 2))
    three = net.op("relu", net.op("conv", three, channels=5, kernel=3, padding=1))
    five = net.op("relu", net.op("conv", five, channels=2, kernel=5, padding=2))
    pool = net.op("max_pool", x, kernel=3, stride=1, padding=1)
    (pool,) = (net.op("relu", v) for v in _convs(net, pool, 3))
    graph = net.finish(y=net.op("concat", [one, three, five, pool]))
    log = RewriteLog()
    result = optimize(graph, 2, log, check=True)
    assert operators(result).count("conv") == 4
    assert operators(result).count("relu") == 4
    assert operators(result).count("split") == 1
    assert_same_outputs(graph, result)
    (merged,) = (r for r in log.rewrites if r.pass_name == "merge-parallel")
    assert (merged.path, merged.saved.nodes, merged.saved.macs, merged.saved.bytes) == ("conv", 3, 0, 0)
    assert merged.what == "computed together with conv_2, conv_3"
    assert {"relu", "relu_2", "relu_3"} <= {v.name for n in result.nodes for v in n.outputs}


@pytest.mark.parametrize("kernel", [{"kernel": 3, "padding": 1, "stride": 2}, {"kernel": (1, 3), "dilation": 2}])
def test_kernels_of_one_geometry(kernel: dict[str, Any]) -> None:
    net = Net()
    x = net.input(1, 3, 9, 11)
    values = _convs(net, x, 4, 4, **kernel) + _convs(net, x, 2, bias=False, **kernel)
    graph = net.finish(y=values[0], z=values[1], u=values[2])
    result = run(MergeParallel(), graph)[0]
    assert operators(result) == ["conv", "split"]
    assert len(next(n for n in result.nodes if n.op.name == "conv").inputs) == 3


def _qkv(shape: tuple[Any, ...], sizes: tuple[int, ...], dense: bool) -> Graph:
    net = Net()
    x = net.input(*shape)
    outputs = {}
    for i, size in enumerate(sizes):
        if dense:
            outputs[f"y{i}"] = net.op("dense", x, units=size, bias=i != 1)
        else:
            weight = net.layer(f"w{i}").parameter("weight", (shape[-1], size), _normal(), dtype=net.dtype)
            outputs[f"y{i}"] = net.op("matmul", x, weight)
    return net.finish(**outputs)


def _normal() -> Initializer:
    return Initializer("normal", (0.0, 1.0))


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("shape", [(5, 8), (2, 5, 8), (2, 3, 5, 8)])
def test_query_key_and_value(shape: tuple[int, ...], dense: bool) -> None:
    result, log = run(MergeParallel(), _qkv(shape, (8, 8, 4), dense))
    assert operators(result) == ["dense" if dense else "matmul", "split"]
    (entry,) = log.rewrites
    assert entry.saved.nodes == 1
    assert entry.what.endswith("bytes more to move")


def test_symbols_stay() -> None:
    graph = _qkv((symbol("N"), symbol("T"), 16), (16, 16, 16), True)
    result = optimize(graph, check=True)
    assert operators(result) == ["dense", "split"]
    assert [str(o.value.type) for o in result.outputs] == ["float64[N, T, 16]"] * 3
    assert_same_outputs(graph, result, {"N": 2, "T": 3})


def test_two_heads_where_the_input_is_large() -> None:
    """No node is saved, so that it is done only where reading the input twice is what costs."""
    assert operators(run(MergeParallel(), _qkv((3, 64), (4, 7), True))[0]) == ["dense", "split"]
    graph = _qkv((3, 8), (4, 7), True)
    assert run(MergeParallel(), graph)[0] is graph


def test_copies_that_cost_more_than_the_nodes_saved() -> None:
    net = Net()
    a, b, c = _convs(net, net.input(1, 3, 64, 64), 64, 64, 64)
    graph = net.finish(a=a, b=b, c=c)
    (reason,) = refusals(MergeParallel(), graph)
    assert reason == "merging it with conv_2, conv_3 would save 1 node and move 12386304 bytes more"


UNLIKE: dict[str, Any] = {
    "geometry": lambda net, x: _convs(net, x, 4, 4) + _convs(net, x, 4, kernel=3, padding=1),
    "groups": lambda net, x: _convs(net, x, 4, 4, 4, groups=2),
    "inputs": lambda net, x: [v for _ in range(3) for v in _convs(net, net.op("relu", x), 4)],
    "chains": lambda net, x: (lambda y: [y, *_convs(net, y, 4)])(_convs(net, x, 6)[0]),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_unlike_layers(name: str) -> None:
    net = Net()
    values = UNLIKE[name](net, net.input(1, 6, 5, 7))
    graph = net.finish(**{f"y{i}": v for i, v in enumerate(values)})
    assert run(MergeParallel(), graph)[0] is graph


def test_shared_weights_stay() -> None:
    net = Net()
    x, other = net.input(4, 8), net.input(4, 8, name="other")
    weights = [net.layer(f"w{i}").parameter("weight", (6, 8), _normal(), dtype=net.dtype) for i in range(3)]
    dense = PRIMITIVES["dense"]()
    values = [net.emit(dense, v, w) for v in (x, other) for w in weights]
    graph = net.finish(**{f"y{i}": v for i, v in enumerate(values)})
    assert run(MergeParallel(), graph)[0] is graph


def test_different_activations_are_not_torn_from_their_layers() -> None:
    net = Net()
    a, b, c = _convs(net, net.input(1, 6, 5, 7), 4, 4, 4)
    graph = net.finish(a=net.op("relu", a), b=net.op("sigmoid", b), c=net.op("tanh", c))
    assert run(MergeParallel(), graph)[0] is graph


def test_it_waits_for_what_single_layers_allow() -> None:
    """Two branches are added up, not cut apart; the norms are folded first."""
    net = Net()
    x = net.input(1, 6, 5, 7)
    a, b, c = (net.op("batch_norm", v) for v in _convs(net, x, 4, 4, 4))
    graph = net.finish(y=net.op("add", [a, b]), z=net.op("relu", c))
    result = optimize(graph, check=True)
    assert operators(result) == ["conv", "conv", "relu"]
    assert_same_outputs(graph, result)


def test_costs_are_what_the_log_says() -> None:
    graph = _qkv((5, 8), (8, 8, 8), False)
    log = RewriteLog()
    before, after = graph_cost(graph), graph_cost(optimize(graph, 2, log))
    assert (before.macs, before.weight_bytes) == (after.macs, after.weight_bytes)
    assert log.saved.nodes == 1


def test_many_siblings_take_linear_time() -> None:
    calls = []
    for count in (100, 400):
        net = Net()
        x = net.input(1, 4, 3, 3)
        graph = net.finish(y=net.op("concat", _convs(net, x, *[2] * count)))
        with Profile() as profile:
            result = optimize(graph)
        assert operators(result) == ["conv"]
        calls.append(sum(entry.callcount for entry in profile.getstats()))
    assert calls[1] <= 4.2 * calls[0]


def test_weights_are_in_the_order_of_the_parts() -> None:
    net = Net()
    x = net.input(2, 8)
    a, b, c = (net.op("dense", x, units=u, bias=False) for u in (2, 3, 4))
    result = run(MergeParallel(), net.finish(c=c, b=b, a=a))[0]
    assert [tuple(o.value.shape) for o in result.outputs] == [(2, 4), (2, 3), (2, 2)]
    assert np.all([o.name == n for o, n in zip(result.outputs, "cba", strict=True)])
