"""Joining, reshaping, slicing, padding, resizing: symbolic shapes, NumPy's rules, refusals."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from netdsl.ir.dims import parse_dim, symbol
from netdsl.ir.opdef import OpError, ShapeError
from netdsl.ops.indexing import index
from tests.ops.building import Bench, result
from tests.ops.test_window import dims, shape_of, typed

X = np.arange(5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7)
KEYS: list[tuple[Any, ...]] = [
    (0,),
    (-1,),
    (slice(1, 3),),
    (..., 0),
    (..., slice(None, None, -1)),
    (slice(None), slice(0, 2)),
    (slice(None, None, 2), None, 1),
    (slice(4, None, -2),),
    (slice(-3, -1), ...),
    (slice(1, 100),),
    (2, 3, 4),
    (slice(3, 0, -1),),
    (None, ..., None),
    (slice(10, None, -1),),
    (slice(None, 1, -2),),
    (slice(-100, 4),),
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_slices_are_numpys(key: tuple[Any, ...]) -> None:
    for kind in (typed(5, 6, 7), typed("N + 1", "2*h", "W")):
        bench = Bench(kind)
        try:
            y = index(bench.layer, bench.inputs[0], key)
        except OpError as error:  # a position that is not inside for every symbol
            assert "may be" in error.message
            assert kind != typed(5, 6, 7)
            continue
        found = bench.run({bench.inputs[0]: X}, {"N": 4, "h": 3, "W": 7})[y]
        assert np.array_equal(found, X[key])


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ((5,), "5 is out of range for axis 0"),
        ((slice(3, 2),), "leaves nothing of axis 0"),
        ((slice(-100, 100, -1),), "leaves nothing of axis 0"),
        ((0, 0, 0, 0), "4 positions for float32"),
        ((..., ...), "only one ..."),
        ((slice(None, None, 0),), "the step of a slice"),
        ((slice(0.5, None),), "the bounds of a slice"),
        ((1.5,), "an index is an integer"),
        ((slice(None), slice(None), symbol("W")), "is out of range for axis 2"),
    ],
)
def test_slices_refuse(key: tuple[Any, ...], words: str) -> None:
    bench = Bench(typed(5, 6, "W"))
    with pytest.raises(OpError) as caught:
        index(bench.layer, bench.inputs[0], key)
    assert words in caught.value.message


def test_slices_of_symbols_are_exact() -> None:
    bench = Bench(typed("N", "2*h", "W"))
    h = symbol("h")
    halved = index(bench.layer, bench.inputs[0], (slice(None), slice(None, None, 2)))
    half = index(bench.layer, bench.inputs[0], (..., slice(None, h), slice(None)))
    assert halved.shape == half.shape == dims("N", "h", "W")
    assert index(bench.layer, bench.inputs[0], (slice(None),)) is bench.inputs[0]


@pytest.mark.parametrize(
    ("name", "shape", "arguments", "named", "expected"),
    [
        ("flatten", ("N", 3, "H", "W"), (), {}, ("N", "3*H*W")),
        ("flatten", ("N", 3, "H", "W"), (2,), {}, ("N", "3", "H*W")),
        ("reshape", ("N", 6, "h"), ([-1, 2, 3, parse_dim("h")],), {}, ("N", "2", "3", "h")),
        ("transpose", ("N", 3, "H"), (), {}, ("H", "3", "N")),
        ("transpose", ("N", 3, "H"), ([0, 2, 1],), {}, ("N", "H", "3")),
        ("squeeze", ("N", 1, "H", 1), (), {}, ("N", "H")),
        ("unsqueeze", ("N", "H"), ([0, -1],), {}, ("1", "N", "H", "1")),
        ("expand", ("N", 1), ([-1, parse_dim("W")],), {}, ("N", "W")),
        ("tile", ("N", "H"), (3,), {}, ("N", "3*H")),
        ("pad", ("N", 3, "H"), ([(1, 2)],), {}, ("N", "3", "H + 3")),
        ("crop", ("N", 3, "H + 4"), (parse_dim("H"),), {}, ("N", "3", "H")),
        ("resize", ("N", 3, "16*h", "16*w"), (2,), {}, ("N", "3", "32*h", "32*w")),
        ("resize", ("N", 3, "2*h"), (0.5,), {}, ("N", "3", "h")),
        ("resize", ("N", 3, "H"), (1 / 3,), {}, ("N", "3", "H//3")),
        ("pixel_shuffle", ("N", 12, "H", "W"), (2,), {}, ("N", "3", "2*H", "2*W")),
        ("space_to_depth", ("N", 3, "2*h", "4*w"), (2,), {}, ("N", "12", "h", "2*w")),
        ("one_hot", ("N",), (4,), {}, None),
    ],
)
def test_symbolic_shapes(name: str, shape: Any, arguments: Any, named: dict[str, Any], expected: Any) -> None:
    if expected is None:
        with pytest.raises(ShapeError, match="needs integer ids"):
            shape_of(name, shape, *arguments, **named)
    else:
        assert shape_of(name, shape, *arguments, **named) == dims(*expected)


@pytest.mark.parametrize(
    ("name", "shape", "arguments", "named", "words"),
    [
        ("reshape", (2, 6), ([3, 5],), {}, "has 12 elements, [3, 5] has 15"),
        ("reshape", (2, 6), ([5, -1],), {}, "do not divide by 5"),
        ("reshape", (2, 6), ([-1, -1],), {}, "only one size may be -1"),
        ("reshape", (2, 6), ([-2, 3],), {}, "a size of -2"),
        ("flatten", (2, 3), (), {"start": 2}, "axis 2 is out of range"),
        ("flatten", (2, 3), (1, 0), {}, "lies behind"),
        ("transpose", (2, 3), ([0, 0],), {}, "does not name each of the 2 axes"),
        ("squeeze", (2, 3), (0,), {}, "axis 0 of float32[2, 3] has 2, not 1"),
        ("unsqueeze", (2, 3), ([0, 0],), {}, "an axis stands twice"),
        ("expand", (2, 3), ([4, 3],), {}, "cannot become 4"),
        ("tile", (2, 3), ([1, 1, 2],), {}, "3 repeats for a tensor of rank 2"),
        ("split", (2, 5), (2,), {}, "which 2 does not divide"),
        ("split", (2, 5), ([2, 2],), {}, "the parts add up to 4"),
        ("pad", (2, 3, "H"), (2,), {"mode": "reflect"}, "may be smaller"),
        ("pad", (2, 3, 4), ("same",), {}, "has no meaning here"),
        ("crop", (2, 3, 4), (5,), {}, "[5] does not fit"),
        ("crop", (2, 3, "H"), (parse_dim("W"),), {}, "is not known to fit"),
        ("crop", (2, 3, 6), (4,), {"offset": 3}, "from [3] on"),
        ("resize", (2, 3, 4), (), {}, "either 'scale' or 'size'"),
        ("resize", (2, 3, 4), (0.1,), {}, "would have the size 0"),
        ("resize", (2, 3, 4, 5, 6), (2,), {"mode": "bicubic"}, "one or two spatial axes"),
        ("pixel_shuffle", (2, 6, 3, 3), (2,), {}, "which 4 does not divide"),
        ("space_to_depth", (2, 6, 3, 4), (2,), {}, "axis 2 of"),
        ("channel_shuffle", (2, 6, 3), (4,), {}, "groups=4 must divide"),
        ("dense", (2, "H"), (4,), {}, "a known number of features"),
        ("dense", (), (4,), {}, "rank 1 or more"),
    ],
)
def test_refusals(name: str, shape: Any, arguments: Any, named: dict[str, Any], words: str) -> None:
    with pytest.raises(OpError) as caught:
        shape_of(name, shape, *arguments, **named)
    assert words in caught.value.message
    assert caught.value.message.startswith(name)


def test_concat_proves_sizes_equal() -> None:
    bench = Bench(typed("N", 3, "(32*h - 1)//2 + 1"), typed("N", 4, "16*h"), typed("N", 4, "H"), typed("N", 4, "H + 1"))
    a, b, c, d = bench.inputs
    assert bench.call("concat", a, b).shape == dims("N", "7", "16*h")
    with pytest.raises(ShapeError, match=r"not provably equal in axis 2: 16\*h and H"):
        bench.call("concat", b, c)
    with pytest.raises(ShapeError, match=r"float32\[N, 4, H \+ 1\] \(number 2\) differ in axis 2"):
        bench.call("concat", c, d)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((3, 4), (4, 5), ("3", "5")),
        ((4,), (4, 5), ("5",)),
        (("N", 4), (4,), ("N",)),
        ((4,), (4,), ()),
        (("N", 1, 3, 4), (6, 4, "M"), ("N", "6", "3", "M")),
    ],
)
def test_matmul_shapes(a: Any, b: Any, expected: tuple[str, ...]) -> None:
    bench = Bench(typed(*a), typed(*b))
    assert bench.call("matmul", *bench.inputs).shape == dims(*expected)


def test_matmul_refuses_other_lengths() -> None:
    bench = Bench(typed("N", 3, 4), typed("N", 5, 4))
    with pytest.raises(ShapeError, match="the second last axis of float32"):
        bench.call("matmul", *bench.inputs)


def test_literals() -> None:
    assert result("tensor", [[1, 2], [3, 4.5]]).tolist() == [[1, 2], [3, 4.5]]
    for wrong in ([[1, 2], [3]], [], ["a"], [1, [2]], [True]):
        with pytest.raises(OpError, match="tensor: "):
            Bench().call("tensor", wrong)


def test_scales_are_exact() -> None:
    bench = Bench(typed("N", 3, "10*h"))
    assert bench.call("resize", *bench.inputs, 0.7).shape == dims("N", "3", "7*h")
    assert Fraction(7, 10) == Fraction(*bench.builder.nodes[0].op.scale[0])  # type: ignore[attr-defined]
