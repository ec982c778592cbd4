"""Merging of padding and of parallel branches, and folding through joins and averages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netdsl.ir.graph import Value
from netdsl.passes import RewriteLog, optimize
from netdsl.passes.fold_through import FoldThrough
from netdsl.passes.merge_branches import MergeBranches
from netdsl.passes.merge_padding import MergePadding
from tests.passes.support import operators, refusals, run
from tests.strategies.graphs import Net, assert_same_outputs


def _add(net: Net, *values: Value) -> Value:
    result: Value = net.op("add", list(values))
    return result


def test_rep_vgg() -> None:
    """3x3, 1x1 and identity, each with its norm, become one convolution (after the norms are folded)."""
    net = Net()
    x = net.op("relu", net.input(2, 6, 7, 9))
    y = net.op("batch_norm", net.op("conv", x, channels=6, kernel=3, padding=1, bias=False))
    z = net.op("batch_norm", net.op("conv", x, channels=6, kernel=1, bias=False))
    graph = net.finish(y=net.op("relu", _add(net, y, z, net.op("batch_norm", x))))
    log = RewriteLog()
    result = optimize(graph, 2, log, check=True)
    assert operators(result) == ["relu", "conv", "relu"]
    assert_same_outputs(graph, result)
    merges = [r for r in log.rewrites if r.pass_name == "merge-branches"]
    assert [r.what for r in merges] == ["merged conv_2 into conv", "merged what is added to it into conv"]
    assert sum(int(str(r.saved.macs)) for r in merges) == 2 * 6 * 63 * 6


BRANCHES: dict[str, list[dict[str, Any]]] = {
    "equal": [{"kernel": 3, "padding": 1}, {"kernel": 3, "padding": 1, "bias": False}],
    "ACNet": [
        {"kernel": 3, "padding": 1},
        {"kernel": (1, 3), "padding": (0, 1)},
        {"kernel": (3, 1), "padding": (1, 0)},
    ],
    "small ones first": [
        {"kernel": (1, 3), "padding": (0, 1)},
        {"kernel": (3, 1), "padding": (1, 0)},
        {"kernel": 3, "padding": 1},
    ],
    "dilated with 1x1": [{"kernel": 3, "padding": 2, "dilation": 2}, {"kernel": 1, "bias": False}],
    "strided": [{"kernel": 3, "padding": 1, "stride": 2}, {"kernel": 1, "stride": 2}],
    "off centre": [{"kernel": 3, "padding": ((2, 0), (0, 2))}, {"kernel": 2, "padding": ((1, 0), (0, 1))}],
    "grouped": [{"kernel": 3, "padding": 1, "groups": 3}, {"kernel": 1, "groups": 3}],
}


@pytest.mark.parametrize("name", BRANCHES)
def test_branches(name: str) -> None:
    net = Net()
    x = net.input(2, 6, 7, 9)
    graph = net.finish(y=_add(net, *(net.op("conv", x, channels=9, **b) for b in BRANCHES[name])))
    assert operators(run(MergeBranches(), graph)[0]) == ["conv"]


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_identity_joins_a_convolution(groups: int) -> None:
    net = Net()
    x = net.input(2, 6, 7, 9)
    y = net.op("conv", x, channels=6, kernel=(3, 1), padding=(1, 0), groups=groups)
    graph = net.finish(y=_add(net, y, x, net.op("relu", x)))
    assert sorted(operators(run(MergeBranches(), graph)[0])) == ["add", "conv", "relu"]


def test_dense_branches() -> None:
    net = Net()
    x = net.input(3, 5)
    graph = net.finish(y=_add(net, net.op("dense", x, units=4), net.op("dense", x, units=4, bias=False)))
    assert operators(run(MergeBranches(), graph)[0]) == ["dense"]


def test_a_cross_alone_would_cost_more() -> None:
    net = Net()
    x = net.input(1, 2, 5, 5)
    y = net.op("conv", x, channels=2, kernel=(1, 3), padding=(0, 1))
    graph = net.finish(y=_add(net, y, net.op("conv", x, channels=2, kernel=(3, 1), padding=(1, 0))))
    assert refusals(MergeBranches(), graph) == ["merged branches would cost 900 MACs instead of 600"]


UNLIKE = {
    "stride": ({"kernel": 1, "stride": 2}, {"kernel": 2, "stride": 2, "padding": ((0, 1), (0, 1))}, True),
    "grid": ({"kernel": 3, "padding": 2, "dilation": 2}, {"kernel": 3, "padding": 1}, False),
    "off grid": ({"kernel": 3, "padding": ((2, 2), (2, 2)), "dilation": 2}, {"kernel": 1, "padding": 0}, True),
    "half a step": ({"kernel": 2, "padding": ((1, 1), (2, 0)), "dilation": 2}, {"kernel": 1}, False),
    "groups": ({"kernel": 1, "groups": 2}, {"kernel": 1}, False),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_unlike_branches(name: str) -> None:
    a, b, merges = UNLIKE[name]
    net = Net()
    x = net.input(2, 4, 8, 8)
    graph = net.finish(y=_add(net, net.op("conv", x, channels=4, **a), net.op("conv", x, channels=4, **b)))
    assert (operators(run(MergeBranches(), graph)[0]) == ["conv"]) is merges


def test_branch_with_a_second_user_or_another_input() -> None:
    net = Net()
    x = net.input(2, 4, 8, 8)
    a, b = (net.op("conv", x, channels=4, kernel=1) for _ in range(2))
    graph = net.finish(y=_add(net, a, b), z=a)
    assert run(MergeBranches(), graph)[0] is graph
    net = Net()
    x = net.input(2, 4, 8, 8)
    a, b = net.op("conv", x, channels=4, kernel=1), net.op("conv", net.op("relu", x), channels=4, kernel=1)
    graph = net.finish(y=_add(net, a, b))
    assert run(MergeBranches(), graph)[0] is graph


def _pad(net: Net, x: Value, **more: Any) -> Value:
    result: Value = net.op("pad", x, **({"padding": ((1, 0), (2, 1))} | more))
    return result


def test_padding_of_conv_and_pad() -> None:
    net = Net()
    x = net.input(2, 3, 7, 9)
    y = net.op("conv", _pad(net, _pad(net, x)), channels=2, kernel=3, padding=1, stride=2)
    assert operators(run(MergePadding(), net.finish(y=y))[0]) == ["conv"]


@pytest.mark.parametrize("count", [True, False])
def test_padding_of_avg_pool(count: bool) -> None:
    net = Net()
    y = net.op("avg_pool", _pad(net, net.input(2, 3, 7, 9)), kernel=3, stride=2, count_include_pad=count)
    assert operators(run(MergePadding(), net.finish(y=y))[0]) == ["avg_pool"]


def test_padding_in_front_of_max_pool() -> None:
    net = Net()
    x = net.input(2, 3, 7, 9)
    graph = net.finish(y=net.op("max_pool", _pad(net, x), kernel=3))
    assert refusals(MergePadding(), graph) == ["max_pool pads with minus infinity, pad with zeros"]
    net = Net()
    y = net.op("max_pool", _pad(net, net.op("relu", net.input(2, 3, 7, 9))), kernel=4, padding=1)
    assert operators(run(MergePadding(), net.finish(y=y))[0]) == ["relu", "max_pool"]


KEPT_PADDING: dict[str, Any] = {
    "with the padding would not be smaller": lambda net, x: net.op("avg_pool", _pad(net, x), kernel=2),
    "it rounds up": lambda net, x: net.op("avg_pool", _pad(net, x), kernel=3, stride=2, ceil=True),
    "its own padding does not count": lambda net, x: net.op(
        "avg_pool", _pad(net, x), kernel=4, padding=1, count_include_pad=False
    ),
}


@pytest.mark.parametrize("reason", KEPT_PADDING)
def test_padding_that_stays(reason: str) -> None:
    net = Net()
    graph = net.finish(y=KEPT_PADDING[reason](net, net.input(2, 3, 7, 9)))
    (found,) = refusals(MergePadding(), graph)
    assert found.replace("with pad ", "with ").startswith(reason)


@pytest.mark.parametrize("more", [{"value": 1.0}, {"mode": "reflect"}, {"mode": "replicate"}], ids=str)
def test_other_padding_stays(more: dict[str, Any]) -> None:
    net = Net()
    y = net.op("conv", _pad(net, net.input(2, 3, 7, 9), **more), channels=2, kernel=3)
    graph = net.finish(y=y)
    assert run(MergePadding(), graph)[0] is graph


def test_norm_behind_a_join_and_averages() -> None:
    net = Net()
    x = net.input(2, 3, 8, 8)
    a = net.op("conv", x, channels=2, kernel=1, bias=False)
    b = net.op(
        "avg_pool",
        net.op("conv", x, channels=4, kernel=3, padding=1),
        kernel=3,
        stride=1,
        padding=1,
        count_include_pad=False,
    )
    y = net.op("batch_norm", net.op("avg_pool", net.op("concat", [a, b]), kernel=2))
    y = net.op(
        "multiply", [net.op("add", [y, net.constant(np.float64(2))]), net.constant(np.arange(6.0).reshape(6, 1, 1))]
    )
    result, log = run(FoldThrough(), net.finish(y=y))
    assert operators(result) == ["conv", "conv", "avg_pool", "concat", "avg_pool"]
    assert [r.saved.nodes for r in log.rewrites] == [1, 1, 1]


def test_norm_behind_padding_that_counts() -> None:
    net = Net()
    y = net.op("avg_pool", net.op("conv", net.input(2, 3, 8, 8), channels=4, kernel=1), kernel=3, padding=1)
    graph = net.finish(y=net.op("batch_norm", y))
    assert run(FoldThrough(), graph)[0] is graph


def test_norm_behind_a_join_with_an_input() -> None:
    net = Net()
    x = net.input(2, 3, 8, 8)
    graph = net.finish(y=net.op("batch_norm", net.op("concat", [x, net.op("conv", x, channels=4, kernel=1)])))
    assert run(FoldThrough(), graph)[0] is graph
