"""Folding of what scales and shifts into the layer behind."""

from __future__ import annotations

import numpy as np
import pytest

from netdsl.passes.fold_backward import FoldBackward
from netdsl.passes.log import Savings
from tests.passes.support import operators, refusals, run
from tests.strategies.graphs import Net


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_norm_into_conv(groups: int, bias: bool) -> None:
    net = Net()
    y = net.op("batch_norm", net.input(2, 6, 7, 9))
    graph = net.finish(y=net.op("conv", y, channels=12, kernel=3, stride=2, groups=groups, bias=bias))
    result, log = run(FoldBackward(), graph)
    assert operators(result) == ["conv"]
    (entry,) = log.rewrites
    assert entry.saved.nodes == 1


def test_norm_into_dense() -> None:
    net = Net()
    y = net.op("batch_norm", net.input(3, 6))
    result, log = run(FoldBackward(), net.finish(y=net.op("dense", y, units=4)))
    assert operators(result) == ["dense"]
    assert next(log.rewrites).saved == Savings(flops=36, nodes=1, bytes=4 * 6 * 8)


def test_image_standardised_for_a_convolution() -> None:
    """(x - mean) / std, one number for each channel."""
    net = Net()
    x, mean, std = net.input(2, 3, 7, 9), net.constant([[[0.4]], [[0.5]], [[0.6]]]), net.constant([[[2]], [[3]], [[4]]])
    from netdsl.ops import PRIMITIVES

    y = net.emit(PRIMITIVES["div"](), net.emit(PRIMITIVES["sub"](), x, mean), std)
    assert operators(run(FoldBackward(), net.finish(y=net.op("conv", y, channels=4, kernel=3)))[0]) == ["conv"]


def test_scale_crosses_padding() -> None:
    net = Net()
    y = net.op("multiply", [net.input(2, 3, 7, 9), net.constant([[[2.0]], [[3.0]], [[4.0]]])])
    graph = net.finish(y=net.op("conv", y, channels=4, kernel=3, padding=1))
    assert operators(run(FoldBackward(), graph)[0]) == ["conv"]


def test_shift_does_not_cross_padding() -> None:
    net = Net()
    y = net.op("batch_norm", net.input(2, 3, 7, 9))
    graph = net.finish(y=net.op("conv", y, channels=4, kernel=3, padding=1))
    assert refusals(FoldBackward(), graph) == ["zero padding lies between the shift of batch_norm and the kernel"]


def test_one_sided_padding_counts() -> None:
    net = Net()
    y = net.op("add", [net.input(2, 3, 7, 9), net.constant(np.float64(1))])
    graph = net.finish(y=net.op("conv", y, channels=4, kernel=3, padding=((0, 1), (0, 0))))
    assert refusals(FoldBackward(), graph) == ["zero padding lies between the shift of add and the kernel"]


def test_second_user() -> None:
    net = Net()
    y = net.op("batch_norm", net.input(2, 3, 7, 9))
    graph = net.finish(y=net.op("conv", y, channels=4, kernel=3), z=y)
    assert refusals(FoldBackward(), graph) == ["the output of batch_norm has a second user, so that batch_norm stays"]


def test_shared_weight() -> None:
    net = Net()
    x = net.input(2, 3, 7, 9)
    net.op("conv", x, channels=3, kernel=1)
    conv = net.builder.nodes[-1]
    again = net.layer("conv").emit(conv.op, net.op("batch_norm", conv.output), *conv.inputs[1:])
    assert refusals(FoldBackward(), net.finish(y=again)) == ["the weight of conv_2 is shared with other uses"]


def test_transposed_convolution_takes_no_shift() -> None:
    net = Net()
    y = net.op("batch_norm", net.input(2, 3, 7, 9))
    assert refusals(FoldBackward(), net.finish(y=net.op("conv_transpose", y, channels=4, kernel=3))) == []
