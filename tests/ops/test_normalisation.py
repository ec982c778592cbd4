"""Normalisations: parameters, buffers, frozen layers, refusals."""

from __future__ import annotations

import pytest

from netdsl.ir.opdef import OpError
from netdsl.ops.batch_norm import BatchNorm
from tests.ops.building import Bench
from tests.ops.test_window import typed


def test_batch_norm_keeps_its_statistics_in_buffers() -> None:
    bench = Bench(typed("N", 6, "H"), frozen=True)
    bench.call("batch_norm", *bench.inputs)
    assert bench.builder.nodes[-1].op == BatchNorm(0.9, 1e-5, frozen=True)
    found = [(p.name, p.kind, str(p.initializer), p.trainable) for p in bench.builder.parameters]
    assert found == [
        ("layer.weight", "parameter", "ones", False),
        ("layer.bias", "parameter", "zeros", False),
        ("layer.running_mean", "buffer", "zeros", False),
        ("layer.running_var", "buffer", "ones", False),
    ]


@pytest.mark.parametrize(
    ("name", "named", "shapes"),
    [
        ("layer_norm", {}, [(7,), (7,)]),
        ("layer_norm", {"axes": 1}, [(6,), (6,)]),
        ("layer_norm", {"axes": [2, 1]}, [(6, 7), (6, 7)]),
        ("rms_norm", {}, [(7,)]),
        ("instance_norm", {}, []),
        ("instance_norm", {"affine": True}, [(6,), (6,)]),
        ("group_norm", {"groups": 3}, [(6,), (6,)]),
        ("switchable_norm", {}, [(6,), (6,), (3,), (3,), (6,), (6,)]),
        ("local_response_norm", {"size": 5}, []),
    ],
)
def test_parameters(name: str, named: dict[str, object], shapes: list[tuple[int, ...]]) -> None:
    bench = Bench(typed("N", 6, 7))
    bench.call(name, *bench.inputs, **named)
    assert [p.value.shape for p in bench.builder.parameters] == shapes


@pytest.mark.parametrize(
    ("name", "shape", "named", "words"),
    [
        ("layer_norm", ("N", 6, "H"), {}, "axis 2 of float32[N, 6, H] is symbolic"),
        ("layer_norm", (2, 6), {"axes": 2}, "axis 2 is out of range"),
        ("group_norm", (2, 6, 7), {"groups": 4}, "groups=4 must divide the 6 channels"),
        ("batch_norm", (2, "C", 7), {}, "a known number of channels"),
        ("batch_norm", (6,), {}, "rank 2 or more"),
        ("instance_norm", (2, 6), {}, "rank 3 to 5"),
    ],
)
def test_refusals(name: str, shape: tuple[int | str, ...], named: dict[str, object], words: str) -> None:
    bench = Bench(typed(*shape))
    with pytest.raises(OpError) as caught:
        bench.call(name, *bench.inputs, **named)
    assert words in caught.value.message
    assert caught.value.message.startswith(name)
