"""Means before pointwise convolutions."""

from __future__ import annotations

from typing import Any

import pytest

from netdsl.ir.dims import symbol
from netdsl.ir.graph import Graph
from netdsl.passes import RewriteLog, optimize
from netdsl.passes.pool_first import PoolFirst
from tests.passes.support import operators, refusals, run
from tests.strategies.graphs import Net, assert_same_outputs

POINTWISE: dict[str, Any] = {"channels": 5, "kernel": 1}


def _pooled(pool: str, conv: dict[str, Any], shape: tuple[Any, ...] = (2, 6, 7, 9), **options: Any) -> Graph:
    net = Net()
    x = net.op("conv", net.op("relu", net.input(*shape)), **conv)
    return net.finish(y=net.op("relu", net.op(pool, x, **options)))


MOVED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "halved": ("avg_pool", POINTWISE, {"kernel": 2}),
    "overlapping": ("avg_pool", POINTWISE, {"kernel": 3, "stride": 2}),
    "rounded up": ("avg_pool", POINTWISE, {"kernel": 2, "ceil": True}),
    "padding that does not count": (
        "avg_pool",
        POINTWISE,
        {"kernel": 3, "stride": 2, "padding": 1, "count_include_pad": False},
    ),
    "padding that counts, without a bias": (
        "avg_pool",
        {**POINTWISE, "bias": False},
        {"kernel": 3, "stride": 2, "padding": 1},
    ),
    "grouped": ("avg_pool", {"channels": 6, "kernel": 1, "groups": 3}, {"kernel": 2}),
    "same": ("avg_pool", {**POINTWISE, "padding": "same"}, {"kernel": 2}),
    "of everything": ("global_avg_pool", POINTWISE, {}),
}


@pytest.mark.parametrize("name", MOVED)
def test_moved(name: str) -> None:
    pool, conv, options = MOVED[name]
    result, log = run(PoolFirst(), _pooled(pool, conv, **options))
    assert operators(result) == ["relu", pool, "conv", "relu"]
    (rewrite,) = log.rewrites
    assert rewrite.what == "done before conv conv"
    assert int(str(rewrite.saved.macs)) > 0


def test_sizes_that_are_symbols() -> None:
    shape = (symbol("N"), 6, 2 * symbol("h"), 2 * symbol("w"))
    graph = _pooled("avg_pool", POINTWISE, shape, kernel=2)
    result = PoolFirst().run(graph, RewriteLog())
    assert_same_outputs(graph, result, {"N": 2, "h": 3, "w": 4})
    assert operators(result) == ["relu", "avg_pool", "conv", "relu"]


@pytest.mark.parametrize(
    ("conv", "options"),
    [
        ({"channels": 5, "kernel": 3}, {"kernel": 2}),
        ({**POINTWISE, "stride": 2}, {"kernel": 2}),
        ({**POINTWISE, "padding": 1}, {"kernel": 2}),
        (POINTWISE, {"kernel": 3, "stride": 1, "padding": 1}),  # as many positions as before
    ],
)
def test_left_alone(conv: dict[str, Any], options: dict[str, Any]) -> None:
    assert refusals(PoolFirst(), _pooled("avg_pool", conv, **options)) == []


def test_refused() -> None:
    padded = _pooled("avg_pool", POINTWISE, kernel=3, stride=2, padding=1)
    assert refusals(PoolFirst(), padded) == ["its padding counts as zeros, to which conv would add its bias"]
    net = Net()
    x = net.op("conv", net.input(2, 6, 7, 9), **POINTWISE)
    assert refusals(PoolFirst(), net.finish(y=net.op("avg_pool", x, kernel=2), z=net.op("relu", x))) == [
        "the output of conv is used elsewhere"
    ]


def test_a_transition_of_densenet() -> None:
    """The norm behind is folded before and after, and a norm in the way of the pooling does not hinder."""
    net = Net()
    x = net.op("relu", net.op("batch_norm", net.input(2, 6, 8, 8)))
    x = net.op("avg_pool", net.op("batch_norm", net.op("conv", x, channels=4, kernel=1)), kernel=2)
    log = RewriteLog()
    result = optimize(net.finish(y=net.op("batch_norm", x)), 2, log, check=True)
    assert operators(result) == ["batch_norm", "relu", "avg_pool", "conv"]
    assert sum(int(str(r.saved.macs)) for r in log.rewrites) == 2 * (64 - 16) * 6 * 4
