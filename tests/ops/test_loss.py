"""Losses: refusals, limits, and what l1 and l2 reach."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netdsl.ir.arguments import ArgumentError
from netdsl.ir.initializer import Initializer
from netdsl.ir.opdef import OpError
from netdsl.ir.types import DType
from tests.ops.building import Bench, result, tensor

LARGE = np.asarray([[1e4, -1e4], [-1e4, 1e4]], np.float32)


@pytest.mark.parametrize(
    ("name", "types", "words", "help"),
    [
        (
            "cross_entropy",
            [("float32", "N", 10), ("float32", "N")],
            "cross_entropy needs integer ids of classes, found float32[N]",
            "cast(ids, int64) (a one-hot target is for categorical_cross_entropy)",
        ),
        (
            "cross_entropy",
            [("int64", "N", 10), ("int64", "N")],
            "cross_entropy needs a float tensor",
            "cast(x, float32)",
        ),
        (
            "cross_entropy",
            [("float32", "N", 10), ("int64", "N", 1)],
            "ids have the shape [N, 1], the logits float32[N, 10] need [N]",
            "remove the axis of size 1: squeeze(ids, 1)",
        ),
        (
            "cross_entropy",
            [("float32", "N", 20, 7), ("int64", "N", 20)],
            "the logits float32[N, 20, 7] need [N, 7]",
            "have their classes on axis 1; move them there: transpose(logits, [0, 2, 1])",
        ),
        (
            "cross_entropy",
            [("float32", "N", 10), ("int64", "M")],
            "ids have the shape [M], the logits float32[N, 10] need [N]",
            "classes on axis 1",
        ),
        ("cross_entropy", [("float32",), ("int64",)], "cross_entropy needs logits [N, classes, …]", ""),
        (
            "categorical_cross_entropy",
            [("float32", "N", 10), ("int64", "N")],
            "needs a target of the logits' shape [N, 10], found the ids int64[N]",
            "cross_entropy(logits, ids) takes ids",
        ),
        (
            "binary_cross_entropy",
            [("float32", "N"), ("int64", "N")],
            "the element types of logits float32[N] and target int64[N] differ",
            "cast(target, float32)",
        ),
        (
            "mse",
            [("float32", "N", 1), ("float32", "N")],
            "mse: prediction float32[N, 1] and target float32[N] differ in shape",
            "both need the same shape: squeeze(prediction, 1)",
        ),
        ("focal", [("int32", 3), ("int32", 3)], "focal needs a float logits, found int32[3]", "cast(x, float32)"),
        ("kl_divergence", [("float32",), ("float32",)], "needs log-probabilities [N, …]", ""),
    ],
)
def test_refusals(name: str, types: list[tuple[Any, ...]], words: str, help: str) -> None:
    bench = Bench(*(tensor(*t) for t in types))
    with pytest.raises(OpError) as caught:
        bench.call(name, *bench.inputs)
    assert words in caught.value.message
    assert help in " ".join(caught.value.help)


def test_weight_of_another_number_of_classes() -> None:
    bench = Bench(tensor("float32", "N", 3), tensor("int64", "N"))
    with pytest.raises(OpError, match=r"the weight float32\[2\] does not fit the 3 classes"):
        bench.call("cross_entropy", *bench.inputs, weight=[1, 2])
    with pytest.raises(ArgumentError, match="a number for each class"):
        bench.call("cross_entropy", *bench.inputs, weight="a")


def test_large_logits_give_finite_losses() -> None:
    ids = np.asarray([0, 0])
    assert result("cross_entropy", LARGE, ids) == 1e4
    assert result("binary_cross_entropy", LARGE, (LARGE > 0).astype(np.float32)) == 0
    assert result("binary_cross_entropy", LARGE, (LARGE < 0).astype(np.float32)) == 1e4
    assert np.isfinite(result("focal", LARGE, (LARGE > 0).astype(np.float32)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_floats_are_computed_in_float32(dtype: str) -> None:
    x = np.full((4, 8), 300, DType[dtype].numpy)  # its square is beyond the largest float16
    found = result("mse", x, -x)
    assert found.dtype == np.float32
    assert found == 360000


def _parameters(bench: Bench) -> None:
    for name, trainable in (
        ("net.a.weight", True),
        ("net.b.weight", True),
        ("net.b.bias", True),
        ("net.c.weight", False),
    ):
        bench.builder.parameter(name, (2, 3), Initializer("ones"), trainable=trainable)
    bench.builder.parameter("net.b.running_mean", (2,), Initializer("ones"), kind="buffer", trainable=False)


@pytest.mark.parametrize(("pattern", "count"), [("*", 3), ("*.weight", 2), ("net.b.*", 2), ("net.a.weight", 1)])
def test_penalties_reach_trained_parameters(pattern: str, count: int) -> None:
    bench = Bench()
    _parameters(bench)
    values = {p.value: np.full(p.value.shape, -2, np.float32) for p in bench.builder.parameters}  # type: ignore[arg-type]
    absolutes, squares = bench.call("l1", pattern), bench.call("l2", pattern)
    found = bench.run(values)
    assert (found[absolutes], found[squares]) == (12 * count, 24 * count)


def test_a_pattern_that_matches_nothing() -> None:
    bench = Bench()
    _parameters(bench)
    with pytest.raises(OpError) as caught:
        bench.call("l2", "net.a.weigth")
    assert caught.value.message == 'l2: no trainable parameter matches the pattern "net.a.weigth"'
    assert caught.value.help == ("did you mean net.a.weight?",)
    assert caught.value.argument == "pattern"
    with pytest.raises(OpError, match="no trainable parameter"):
        bench.call("l1", "net.c.*")
