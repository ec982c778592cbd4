"""Folding of batch norms and per-channel arithmetic into the layer before."""

from __future__ import annotations

import pytest

from netdsl.ir.graph import Graph
from netdsl.ir.types import DType
from netdsl.passes.common import CommonSubexpressions
from netdsl.passes.fold_forward import FoldBatchNorm, FoldScale
from netdsl.passes.log import Savings
from tests.passes.support import check_text, operators, refusals, run
from tests.strategies.graphs import Net, assert_same_outputs

BEFORE = """graph "T" {
  input %x: float64[2, 3, 5, 7]
  param %c.weight: float64[4, 3, 3, 3] = he_normal
  param %b.weight: float64[4] = ones
  param %b.bias: float64[4] = zeros
  buffer %b.running_mean: float64[4] = zeros
  buffer %b.running_var: float64[4] = ones
  %c: float64[2, 4, 3, 5] = conv(%x, %c.weight)
    {stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1} @c loc("a.net":3:5)
  %b: float64[2, 4, 3, 5] = batch_norm(%c, %b.weight, %b.bias, %b.running_mean, %b.running_var)
    {momentum=0.9, epsilon=0.001, frozen=false} @b loc("a.net":4:5)
  output y = %b
}"""

AFTER = """graph "T" {
  input %x: float64[2, 3, 5, 7]
  param %c.weight: float64[4, 3, 3, 3] = he_normal
  param %b.weight: float64[4] = ones
  param %b.bias: float64[4] = zeros
  buffer %b.running_mean: float64[4] = zeros
  buffer %b.running_var: float64[4] = ones
  %b.scale: float64[] = constant_tensor() {value=array(float64[], [0.001])} @b.scale loc("a.net":4:5)
  %b.scale#2: float64[4] = add(%b.running_var, %b.scale) @b.scale loc("a.net":4:5)
  %b.scale#3: float64[4] = rsqrt(%b.scale#2) @b.scale loc("a.net":4:5)
  %b.scale#4: float64[4] = mul(%b.weight, %b.scale#3) @b.scale loc("a.net":4:5)
  %c.weight#2: float64[4, 1, 1, 1] = reshape(%b.scale#4) {shape=(4, 1, 1, 1)} @c.weight loc("a.net":3:5)
  %c.weight#3: float64[4, 3, 3, 3] = mul(%c.weight, %c.weight#2) @c.weight loc("a.net":3:5)
  %b.scale#5: float64[4] = mul(%b.running_mean, %b.scale#4) @b.scale loc("a.net":4:5)
  %b.scale#6: float64[4] = sub(%b.bias, %b.scale#5) @b.scale loc("a.net":4:5)
  %c: float64[2, 4, 3, 5] = conv(%x, %c.weight#3, %b.scale#6)
    {stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1} @c loc("a.net":3:5)
  output y = %c
}"""


def test_text() -> None:
    log = check_text(FoldBatchNorm(), BEFORE, AFTER)
    (entry,) = log.rewrites
    assert str(entry) == (
        "a.net:4:5: b: folded batch_norm into conv c [fold-batch-norm] (saves 1 node, 120 FLOPs, 96 bytes)"
    )
    assert entry.saved == Savings(flops=120, nodes=1, bytes=96)  # 2 of 3 per element; 4 vectors become one bias


CONVOLUTIONS = {
    "bias": {"channels": 4, "kernel": 3},
    "no-bias": {"channels": 4, "kernel": 3, "bias": False},
    "padded": {"channels": 4, "kernel": 3, "padding": 1, "stride": 2},
    "depthwise": {"channels": 6, "kernel": 3, "groups": 6, "bias": False},
    "grouped": {"channels": 4, "kernel": 2, "groups": 2},
    "dilated": {"channels": 5, "kernel": 2, "dilation": 3},
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_conv(name: str) -> None:
    net = Net()
    y = net.op("batch_norm", net.op("conv", net.input(2, 6, 7, 9), **CONVOLUTIONS[name]))
    graph = net.finish(y=y)
    assert operators(run(FoldBatchNorm(), graph)[0]) == ["conv"]


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_conv_transpose(groups: int, bias: bool) -> None:
    net = Net()
    y = net.op("conv_transpose", net.input(2, 6, 4, 5), channels=12, kernel=3, stride=2, groups=groups, bias=bias)
    result = run(FoldBatchNorm(), net.finish(y=net.op("batch_norm", y)))[0]
    assert operators(result) == ["conv_transpose"]


@pytest.mark.parametrize("bias", [True, False])
def test_dense(bias: bool) -> None:
    net = Net()
    y = net.op("batch_norm", net.op("dense", net.input(3, 5), units=4, bias=bias))
    assert operators(run(FoldBatchNorm(), net.finish(y=y))[0]) == ["dense"]


def test_dense_of_three_axes_keeps_a_norm_of_another_axis() -> None:
    net = Net()
    y = net.op("batch_norm", net.op("dense", net.input(3, 5, 6), units=5))
    assert refusals(FoldBatchNorm(), net.finish(y=y)) == []


def test_two_norms_in_one_sweep() -> None:
    net = Net()
    y = net.op("conv", net.input(2, 3, 5, 7), channels=4, kernel=3)
    graph = net.finish(y=net.op("batch_norm", net.op("batch_norm", y)))
    assert operators(run(FoldBatchNorm(), graph)[0]) == ["conv"]


def test_second_user() -> None:
    net = Net()
    y = net.op("conv", net.input(2, 3, 5, 7), channels=4, kernel=3)
    graph = net.finish(y=net.op("batch_norm", y), z=net.op("relu", y))
    assert refusals(FoldBatchNorm(), graph) == [
        "the output of conv is used elsewhere, and a second conv would cost more"
    ]


def _shared(norms: int) -> Graph:
    """One convolution's weight at two uses, each normalised; with one norm's parameters for both, or one each."""
    net = Net()
    x = net.input(2, 3, 5, 7)
    first = net.op("conv", x, channels=3, kernel=3, padding=1)
    conv = net.builder.nodes[-1]
    a = net.op("batch_norm", first)
    norm = net.builder.nodes[-1]
    second = net.layer("conv").emit(conv.op, net.op("relu", a), *conv.inputs[1:])
    b = net.op("batch_norm", second) if norms == 2 else net.layer("batch_norm").emit(norm.op, second, *norm.inputs[1:])
    return net.finish(y=b)


def test_shared_weight_with_norms_of_its_own() -> None:
    reason = "the weight of conv is shared, and a second one would add 648 bytes to the file"
    assert refusals(FoldBatchNorm(), _shared(2)) == [reason, reason.replace("conv is", "conv_2 is")]


def test_shared_weight_and_norm_stay_shared() -> None:
    graph = _shared(1)
    folded, _ = run(FoldBatchNorm(), graph)
    merged, _ = run(CommonSubexpressions(), folded)
    first, second = (n for n in merged.nodes if n.op.name == "conv")
    assert first.inputs[1] is second.inputs[1]
    assert_same_outputs(graph, merged)


def test_float16_is_widened_for_the_arithmetic() -> None:
    net = Net(dtype=DType.float16)
    y = net.op("batch_norm", net.op("conv", net.input(2, 3, 5, 7), channels=4, kernel=3), epsilon=1e-8)
    graph = net.finish(y=y)
    result = FoldBatchNorm().run(graph, run(FoldScale(), graph)[1])
    assert operators(result) == ["conv"]
    (epsilon,) = (n for n in result.nodes if n.op.name == "constant_tensor")
    assert epsilon.output.dtype is DType.float32
    assert_same_outputs(graph, result, rtol=4e-3)


@pytest.mark.parametrize("operator", ["add", "sub", "mul", "div"])
@pytest.mark.parametrize("shape", [(), (1,), (4, 1, 1), (1, 4, 1, 1)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("flip", [False, True])
def test_arithmetic(operator: str, shape: tuple[int, ...], bias: bool, flip: bool) -> None:
    import numpy as np

    from netdsl.ops import PRIMITIVES

    net = Net()
    y = net.op("conv", net.input(2, 3, 5, 7), channels=4, kernel=3, padding=1, bias=bias)
    constant = net.constant(np.linspace(0.5, 2, int(np.prod(shape))).reshape(shape))
    operands = (constant, y) if flip else (y, constant)
    result, _ = run(FoldScale(), net.finish(y=net.emit(PRIMITIVES[operator](), *operands)))
    assert operators(result) == (["conv", "div"] if flip and operator == "div" else ["conv"])


def test_a_constant_of_another_axis_stays() -> None:
    import numpy as np

    net = Net()
    y = net.op("conv", net.input(2, 3, 5, 7), channels=4, kernel=3)
    graph = net.finish(y=net.op("add", [y, net.constant(np.arange(5.0))]))
    assert refusals(FoldScale(), graph) == []
