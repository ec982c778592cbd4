"""Convolutions and pools: symbolic shapes, costs, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netdsl.ir.dims import Dim, evaluate, parse_dim, product
from netdsl.ir.opdef import OpError, ShapeError
from netdsl.ir.reach import Axis
from netdsl.ir.types import DType, TensorType
from tests.ops.building import Bench, result


def typed(*shape: int | str, dtype: str = "float32") -> TensorType:
    """A type whose dimensions are integers or expressions."""
    return TensorType(DType[dtype], tuple(parse_dim(d) if isinstance(d, str) else d for d in shape))


def shape_of(name: str, shape: tuple[int | str, ...], *arguments: Any, **named: Any) -> tuple[Dim, ...]:
    bench = Bench(typed(*shape))
    value: tuple[Dim, ...] = bench.call(name, *bench.inputs, *arguments, **named).shape
    return value


def dims(*texts: str) -> tuple[Dim, ...]:
    return tuple(parse_dim(t) for t in texts)


@pytest.mark.parametrize(
    ("name", "shape", "arguments", "named", "expected"),
    [
        ("conv", ("N", 3, "32*h", "32*w"), (8, 3), {"stride": 2, "padding": 1}, ("N", "8", "16*h", "16*w")),
        ("conv", ("N", 3, "32*h"), (8, 3), {"stride": 2, "padding": "same"}, ("N", "8", "16*h")),
        ("conv", ("N", 3, "H"), (8, 3), {"stride": 2, "padding": "same"}, ("N", "8", "(H + 1)//2")),
        ("conv", ("N", 3, "H"), (8, 3), {"dilation": 2, "padding": 2}, ("N", "8", "H")),
        ("depthwise_conv", ("N", 3, "H"), (3,), {"multiplier": 4, "padding": 1}, ("N", "12", "H")),
        ("conv_transpose", ("N", 3, "16*h"), (8, 2), {"stride": 2}, ("N", "8", "32*h")),
        ("conv_transpose", ("N", 3, "h"), (8, 3), {"stride": 4, "padding": "same"}, ("N", "8", "4*h")),
        ("max_pool", ("N", 3, "2*h"), (2,), {}, ("N", "3", "h")),
        ("max_pool", ("N", 3, "H"), (3,), {"stride": 2, "ceil": True}, ("N", "3", "(H - 2)//2 + 1")),
        ("avg_pool", ("N", 3, "4*h"), (3,), {"stride": 2, "padding": 1}, ("N", "3", "2*h")),
        ("global_avg_pool", ("N", 3, "H", "W"), (), {}, ("N", "3", "1", "1")),
        ("adaptive_avg_pool", ("N", 3, "7*h", "W"), ((7, 1),), {}, ("N", "3", "7", "1")),
    ],
)
def test_symbolic_shapes(
    name: str, shape: Any, arguments: Any, named: dict[str, Any], expected: tuple[str, ...]
) -> None:
    assert shape_of(name, shape, *arguments, **named) == dims(*expected)


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("padding", [0, 1, "same"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [2, 3, 4])
def test_symbolic_pools_agree_with_numpy(kernel: int, stride: int, padding: Any, ceil: bool) -> None:
    for size in range(4, 14):
        bench = Bench(typed("N", 2, "W"))
        bench.call("max_pool", *bench.inputs, kernel, stride=stride, padding=padding, ceil=ceil)
        bench.call("avg_pool", *bench.inputs, kernel, stride=stride, padding=padding, ceil=ceil)
        bench.run({bench.inputs[0]: np.zeros((2, 2, size), np.float32)}, {"N": 2, "W": size})


@pytest.mark.parametrize(
    ("name", "arguments", "named", "words"),
    [
        ("conv", (6, 3), {"groups": 3}, "groups=3 must divide both the 4 input and the 6 output channels"),
        ("conv", (6, 9), {}, "a kernel of 9 does not fit into the height 7"),
        ("conv", (6, 3), {"dilation": 4}, "a kernel of 9 (dilated) does not fit into the height 7"),
        ("conv", (6, (3, 3, 3)), {}, "'kernel' has 3 values for 2 spatial axes"),
        ("conv", (6, 3), {"padding": [1, 2, 3]}, "'padding' has 3 values for 2 spatial axes"),
        ("conv_transpose", (6, 3), {"stride": 2, "output_padding": 2}, "output_padding of spatial axis 0"),
        ("conv_transpose", (6, 3), {"padding": "same", "output_padding": 1}, "takes no output_padding"),
        ("conv_transpose", (6, 1), {"padding": 4}, "leaves -1 of axis 2"),
        ("max_pool", (2,), {"padding": 2}, "a padding of 2 must be smaller than the kernel, 2"),
        ("avg_pool", (8,), {}, "a kernel of 8 does not fit"),
        ("max_pool_indices", (8,), {}, "max_pool_indices: a kernel of 8 does not fit"),
    ],
)
def test_refusals(name: str, arguments: Any, named: dict[str, Any], words: str) -> None:
    bench = Bench(typed("N", 4, 7, 8))
    with pytest.raises(OpError) as caught:
        bench.call(name, *bench.inputs, *arguments, **named)
    assert words in caught.value.message
    assert caught.value.message.startswith(name)
    assert not bench.builder.parameters  # refused before a parameter was made


@pytest.mark.parametrize(("name", "arguments"), [("conv", (6, 3)), ("avg_pool", (2,)), ("global_avg_pool", ())])
def test_wrong_types(name: str, arguments: Any) -> None:
    for wrong in (typed(2, 3, 4, dtype="int32"), typed(2, 3)):
        bench = Bench(wrong)
        with pytest.raises(ShapeError, match=name):
            bench.call(name, *bench.inputs, *arguments)


def test_unpooling_refuses_other_indices() -> None:
    bench = Bench(typed(2, 3, 4), typed(2, 3, 5, dtype="int64"))
    with pytest.raises(ShapeError, match="must have the same shape"):
        bench.call("max_unpool", *bench.inputs, 2)


def test_adaptive_bins_of_an_unknown_size_are_refused() -> None:
    with pytest.raises(ShapeError, match="2 is not known to divide"):
        shape_of("adaptive_avg_pool", ("N", 3, "H"), 2)


def test_parameters_of_convolutions() -> None:
    bench = Bench(typed("N", 4, "H", "W"))
    bench.call("conv", *bench.inputs, 6, (3, 2), groups=2)
    bench.call("conv_transpose", *bench.inputs, 6, (3, 2), groups=2, bias=False)
    shapes = [p.value.shape for p in bench.builder.parameters]
    assert shapes == [(6, 2, 3, 2), (6,), (4, 3, 3, 2)]
    assert [p.initializer.fan_in for p in bench.builder.parameters] == [12, 12, 12]


def test_costs_count_macs() -> None:
    bench = Bench(typed("N", 4, 9, 9))
    conv = bench.call("conv", *bench.inputs, 6, 3, stride=2, groups=2)
    bench.call("conv_transpose", conv, 4, 2, stride=2)
    bench.call("max_pool", conv, 2)
    costs = [n.op.cost([v.type for v in n.inputs], [v.type for v in n.outputs]) for n in bench.builder.nodes]
    assert [evaluate(c.macs, {"N": 1}) for c in costs] == [6 * 16 * 2 * 9, 6 * 16 * 4 * 4, 0]
    assert [evaluate(c.other, {"N": 1}) for c in costs] == [6 * 16, 4 * 64, 6 * 4 * 3]
    assert product(conv.shape[1:]) == 96


def test_reach_of_windows() -> None:
    bench = Bench(typed(1, 4, 9))
    bench.call("conv", *bench.inputs, 6, 3, stride=2, padding=1, dilation=2)
    bench.call("conv_transpose", *bench.inputs, 6, 4, stride=2, padding=1)
    conv, transposed = (n.op.reach([n.inputs[0].type, n.inputs[1].type], [n.output.type]) for n in bench.builder.nodes)
    assert conv.axes == (Axis(5, 2, -1),)  # type: ignore[arg-type]  # an integer equals its fraction
    assert (transposed.axes[0].size, transposed.axes[0].stride * 2, transposed.axes[0].offset) == (2, 1, -1)


def test_padding_never_wins_a_maximum() -> None:
    x = -np.ones((1, 1, 4), np.float32)
    assert (result("max_pool", x, 3, padding=1, stride=2) == -1).all()


def test_indices_count_within_a_channel() -> None:
    x = np.zeros((2, 3, 4, 4), np.float32)
    x[..., 3, 2] = 1
    _, indices = result("max_pool_indices", x, 4)
    assert (indices == 3 * 4 + 2).all()
