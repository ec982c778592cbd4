"""Merging of neighbouring linear layers."""

from __future__ import annotations

from typing import Any

import pytest

from netdsl.ir.dims import symbol
from netdsl.ir.graph import Graph
from netdsl.passes.fuse_pointwise import FusePointwise
from tests.passes.support import operators, refusals, run
from tests.strategies.graphs import Net, assert_same_outputs

WIDE = 5  # input channels, few; the layer between has more, so that merging pays


def _pair(first: dict[str, Any], second: dict[str, Any]) -> Graph:
    net = Net()
    y = net.op("conv", net.input(2, WIDE, 11, 13), **first)
    return net.finish(y=net.op("conv", y, **second))


MERGED = {
    "1x1 to KxK": ({"channels": 16, "kernel": 1, "bias": False}, {"channels": 4, "kernel": 3, "padding": 1}),
    "1x1 to KxK, bias, no padding": ({"channels": 16, "kernel": 1}, {"channels": 4, "kernel": (3, 2), "dilation": 2}),
    "1x1 to KxK with stride": ({"channels": 16, "kernel": 1}, {"channels": 4, "kernel": 3, "stride": (2, 1)}),
    "1x1 with stride to KxK": ({"channels": 99, "kernel": 1, "stride": 2}, {"channels": 4, "kernel": 3}),
    "KxK to 1x1": ({"channels": 8, "kernel": 3, "padding": 1, "stride": 2}, {"channels": 4, "kernel": 1}),
    "KxK to strided 1x1": (
        {"channels": 8, "kernel": 2, "padding": ((1, 0), (0, 1)), "dilation": 2},
        {"channels": 4, "kernel": 1, "stride": (2, 3), "bias": False},
    ),
    "1x1 to 1x1": ({"channels": 16, "kernel": 1, "bias": False}, {"channels": 4, "kernel": 1, "stride": 2}),
    "padded 1x1 to 1x1": ({"channels": 16, "kernel": 1, "padding": 1}, {"channels": 4, "kernel": 1}),
}


@pytest.mark.parametrize("name", MERGED)
def test_merged(name: str) -> None:
    graph = _pair(*MERGED[name])
    result, log = run(FusePointwise(), graph)
    assert operators(result) == ["conv"]
    macs = next(log.rewrites).saved.macs
    assert isinstance(macs, int) and macs > 0


REFUSED = {
    "bias in front of padding": (
        {"channels": 16, "kernel": 1},
        {"channels": 4, "kernel": 3, "padding": 1},
        "the bias of conv lies in front of zero padding",
    ),
    "stride in front of padding": (
        {"channels": 16, "kernel": 1, "stride": 2, "bias": False},
        {"channels": 4, "kernel": 3, "padding": 1},
        "conv has a stride, and zero padding lies behind it",
    ),
    "bottleneck": (
        {"channels": 2, "kernel": 1},
        {"channels": 8, "kernel": 1},
        "merging with conv would not lower the cost: 11440 MACs instead of 7436",
    ),
    "depthwise to pointwise": (
        {"channels": WIDE, "kernel": 3, "groups": WIDE, "padding": 1},
        {"channels": 8, "kernel": 1},
        "conv or it is grouped, and the merged kernel would be dense: 102960 MACs instead of 24310",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    first, second, reason = REFUSED[name]
    assert refusals(FusePointwise(), _pair(first, second)) == [reason]


def test_two_kernels_are_no_match() -> None:
    assert refusals(FusePointwise(), _pair({"channels": 9, "kernel": 3}, {"channels": 2, "kernel": 3})) == []


def test_dense() -> None:
    net = Net()
    y = net.op("dense", net.op("dense", net.input(3, 4, 5), units=9), units=2)
    assert operators(run(FusePointwise(), net.finish(y=y))[0]) == ["dense"]


def test_chain_in_one_sweep() -> None:
    net = Net()
    y = net.input(3, 4, 5, 6)
    for _ in range(20):
        y = net.op("conv", y, channels=4, kernel=1)
    assert operators(run(FusePointwise(), net.finish(y=y))[0]) == ["conv"]


def test_activation_between() -> None:
    net = Net()
    y = net.op("relu", net.op("conv", net.input(2, 5, 7, 9), channels=16, kernel=1))
    assert refusals(FusePointwise(), net.finish(y=net.op("conv", y, channels=4, kernel=1))) == []


def test_second_user_and_shared_weight() -> None:
    net = Net()
    y = net.op("conv", net.input(2, 5, 7, 9), channels=16, kernel=1)
    assert refusals(FusePointwise(), net.finish(y=net.op("conv", y, channels=4, kernel=1), z=y)) == [
        "the output of conv is used elsewhere"
    ]
    net = Net()
    y = net.op("conv", net.input(2, 4, 7, 9), channels=4, kernel=1)
    conv = net.builder.nodes[-1]
    graph = net.finish(y=net.layer("conv").emit(conv.op, y, *conv.inputs[1:]))
    assert refusals(FusePointwise(), graph) == ["the weight of conv or its own is shared with other uses"]


def test_symbolic_size() -> None:
    net = Net()
    x = net.input(symbol("N"), 3, symbol("H"), symbol("W"))
    y = net.op("conv", net.op("conv", x, channels=16, kernel=1), channels=4, kernel=3)
    graph = net.finish(y=y)
    from netdsl.passes.log import RewriteLog

    log = RewriteLog()
    result = FusePointwise().run(graph, log)
    assert operators(result) == ["conv"]
    assert_same_outputs(graph, result, {"N": 2, "H": 7, "W": 9})
