"""dropout and drop_path at inference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netdsl.ir.arguments import ArgumentError
from netdsl.ir.opdef import OpError
from tests.ops.building import Bench, result, tensor


@pytest.mark.parametrize(("name", "arguments"), [("dropout", {}), ("drop_path", {"rate": 0.1})])
def test_inference_is_the_identity(name: str, arguments: dict[str, Any]) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    np.testing.assert_array_equal(result(name, x, **arguments), x)


def test_default_rate() -> None:
    bench = Bench(tensor("float32", "N", 3))
    bench.call("dropout", bench.inputs[0])
    assert bench.builder.nodes[0].op.rate == 0.5  # type: ignore[attr-defined]
    assert bench.builder.nodes[0].op.cost([bench.inputs[0].type], [bench.inputs[0].type]).flops == 0


def test_a_frozen_layer_drops_nothing() -> None:
    bench = Bench(tensor("float32", "N", 3), frozen=True)
    assert bench.call("dropout", bench.inputs[0]) is bench.inputs[0]
    assert bench.call("drop_path", bench.inputs[0], 0.1) is bench.inputs[0]


@pytest.mark.parametrize(
    ("name", "type", "words"),
    [
        ("dropout", ("int32", 3), "dropout needs a float tensor, found int32[3]"),
        ("drop_path", ("float32",), "drop_path needs a tensor of rank 1 or more"),
    ],
)
def test_refusals(name: str, type: tuple[Any, ...], words: str) -> None:
    bench = Bench(tensor(*type))
    with pytest.raises(OpError) as caught:
        bench.call(name, bench.inputs[0], 0.1)
    assert words in caught.value.message


@pytest.mark.parametrize("rate", [1, -0.1, "a"])
def test_rates_out_of_range(rate: Any) -> None:
    bench = Bench(tensor("float32", 3))
    with pytest.raises(ArgumentError, match="a number at least 0 and below 1"):
        bench.call("dropout", bench.inputs[0], rate)
