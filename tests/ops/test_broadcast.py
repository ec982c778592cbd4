"""Broadcasting of symbolic shapes."""

from __future__ import annotations

import numpy as np
import pytest

from netdsl.ir.dims import symbol
from netdsl.ir.opdef import ShapeError
from netdsl.ops.broadcast import broadcast
from tests.ops.building import tensor

N, H = symbol("N"), symbol("H")


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        (((2, 3), (2, 3)), (2, 3)),
        (((2, 1, 5), (3, 1)), (2, 3, 5)),
        (((), (4,)), (4,)),
        (((0, 3), (1, 3)), (0, 3)),
        (((2, 3), (3,), (2, 1)), (2, 3)),
    ],
)
def test_like_numpy(shapes: tuple[tuple[int, ...], ...], expected: tuple[int, ...]) -> None:
    assert broadcast("add", *(tensor("float32", *s) for s in shapes)) == expected == np.broadcast_shapes(*shapes)


def test_symbols() -> None:
    assert broadcast("add", tensor("float32", "N", 3, "H"), tensor("float32", 3, 1)) == (N, 3, H)
    assert broadcast("add", tensor("float32", 1), tensor("float32", "N")) == (N,)
    ceiling, same = (H + 1) // 2, H - H // 2
    assert broadcast("add", tensor("float32", ceiling), tensor("float32", same)) == (ceiling,)


@pytest.mark.parametrize(
    ("left", "right", "words"),
    [
        ((4, 64, 56), (4, 32, 56), ["[4, 64, 56] and [4, 32, 56]", "axis 1 is 64 and 32"]),
        ((2, 3), (5, 1, 2, 4), ["axis -1 is 3 and 4"]),
        (("N", 3), ("M", 3), ["axis 0 is N and M", "cannot be proved equal", "differ for M=3, N=2"]),
        (("H",), (H // 2 * 2,), ["cannot be proved equal", "differ for H=3"]),
        (("N",), (N + 1,), ["axis 0 is N and N + 1"]),
        (("N",), (2,), ["axis 0 is N and 2"]),
    ],
)
def test_refusals(left: tuple[object, ...], right: tuple[object, ...], words: list[str]) -> None:
    with pytest.raises(ShapeError) as caught:
        broadcast("add", tensor("float32", *left), tensor("float32", *right))  # type: ignore[arg-type]
    assert caught.value.message.startswith("add: ")
    for word in words:
        assert word in caught.value.message
    assert caught.value.help


def test_a_vector_of_channels_is_shown_its_shape() -> None:
    with pytest.raises(ShapeError) as caught:
        broadcast("mul", tensor("float32", "N", 64, 8, 9), tensor("float32", 64))
    assert "reshape(v, [64, 1, 1])" in caught.value.help[0]
