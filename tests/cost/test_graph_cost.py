"""Costs of graphs, counted by hand."""

from __future__ import annotations

from netdsl.cost import GraphCost, for_one_item, graph_cost, with_symbols
from netdsl.ir.dims import parse_dim, symbol
from netdsl.ir.types import DType
from netdsl.ops import PRIMITIVES
from netdsl.passes import optimize
from tests.strategies.graphs import Net

N, H, W = symbol("N"), symbol("H"), symbol("W")


def _net() -> Net:
    return Net(dtype=DType.float32)


def test_by_hand() -> None:
    net = _net()
    x = net.input(N, 3, 8, 8)  # 768 bytes an item
    y = net.op("conv", x, channels=4, kernel=3, bias=False)  # [4, 6, 6]: 144 elements, 27 MACs each
    y = net.op("batch_norm", y)  # 2 operations each
    y = net.op("relu", y)  # 1 each
    y = net.op("dense", net.op("flatten", net.op("global_avg_pool", y)), units=5)  # 144 additions; 4 * 5 MACs and 5
    cost = graph_cost(for_one_item(net.finish(y=y)))
    weights = 4 * (108 + 16 + 25)
    assert cost == GraphCost(
        parameters=108 + 8 + 25,
        trainable=108 + 8 + 25,
        buffers=8,
        macs=144 * 27 + 20,
        flops=2 * (144 * 27 + 20) + 2 * 144 + 144 + 144 + 5,
        activation_bytes=4 * (3 * 144 + 4 + 4 + 5),
        peak_bytes=weights + 768 + 576 + 0 if 768 + 576 > 2 * 576 else weights + 2 * 576,
        training_peak_bytes=weights + 4 * 141 + 768 + 4 * (3 * 144 + 13) + 768,
        weight_bytes=weights,
    )


def test_peak_of_a_residual() -> None:
    """The skipped value lives until the addition: three tensors at once."""
    net = _net()
    x = net.op("relu", net.input(1, 2, 8, 8))
    y = net.op("exp", net.op("abs", x))
    cost = graph_cost(net.finish(y=net.op("add", [x, y])))
    assert cost.peak_bytes == 3 * 512


def test_inputs_die_and_outputs_stay() -> None:
    net = _net()
    a = net.op("exp", net.input(100))
    b = net.op("abs", a)
    c = net.op("sum", b)
    assert graph_cost(net.finish(c=c)).peak_bytes == 400 + 400  # x and a, then a and b
    net.builder.output("a", a)
    assert graph_cost(net.finish()).peak_bytes == 400 + 400 + 4  # a to the end: with b and c


def test_shared_parameters_count_once_their_work_at_each_use() -> None:
    net = _net()
    y = net.op("conv", net.input(1, 3, 4, 4), channels=3, kernel=1, bias=False)
    conv = net.builder.nodes[-1]
    cost = graph_cost(net.finish(y=net.layer("conv").emit(conv.op, y, *conv.inputs[1:])))
    assert (cost.parameters, cost.macs, cost.weight_bytes) == (9, 2 * 9 * 16, 36)


def test_weight_arithmetic_is_free_and_only_its_result_is_stored() -> None:
    net = _net()
    y = net.op("batch_norm", net.op("conv", net.input(1, 3, 4, 4), channels=5, kernel=1, bias=False))
    graph = net.finish(y=y)
    cost = graph_cost(optimize(graph))
    assert cost.flops == 2 * 15 * 16 + 5 * 16  # the convolution and its bias
    assert cost.weight_bytes == 4 * (15 + 5)
    assert cost.parameters == graph_cost(graph).parameters == 25


def test_frozen_parameters_are_not_trainable() -> None:
    net = _net()
    layer = net.layer("conv")
    layer.frozen = True
    from netdsl.ir.initializer import ZEROS

    w = layer.parameter("weight", (2, 3, 1, 1), ZEROS, dtype=DType.float32)
    conv = PRIMITIVES["conv"]((1, 1), ((0, 0), (0, 0)), (1, 1), 1)  # type: ignore[call-arg]  # any primitive's fields
    cost = graph_cost(net.finish(y=layer.emit(conv, net.input(1, 3, 4, 4), w)))
    assert (cost.parameters, cost.trainable) == (6, 0)


def test_formulas() -> None:
    net = _net()
    y = net.op("conv", net.input(N, 3, H, W), channels=4, kernel=3, padding=1, bias=False)
    graph = net.finish(y=net.op("relu", y))
    assert graph_cost(graph).macs == parse_dim("108*N*H*W")
    one = for_one_item(graph)
    assert graph_cost(one).macs == parse_dim("108*H*W")
    assert graph_cost(one).peak_bytes == parse_dim("32*H*W + 432")
    assert one.symbols == ("H", "W")
    assert graph_cost(with_symbols(one, {"H": 5, "W": 7})).macs == 108 * 35


def test_peaks_that_cannot_be_compared() -> None:
    net = _net()
    a, b = net.input(H), net.input(W, name="w")
    graph = net.finish(a=net.op("sum", net.op("exp", a)), b=net.op("sum", net.op("exp", b)))
    assert str(graph_cost(graph).peak_bytes).startswith("max(")


def test_without_symbols_nothing_changes() -> None:
    net = _net()
    graph = net.finish(y=net.op("relu", net.input(2, 3)))
    assert for_one_item(graph) is graph
