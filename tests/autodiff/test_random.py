"""uniform_random: its ONNX form gives the NumPy rule's bits, and the bits are random."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from netdsl.ir.build import GraphBuilder
from netdsl.ir.dims import Dim, symbol
from netdsl.ir.graph import Graph
from netdsl.ir.opdef import Target
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.onnx.export import to_proto
from netdsl.ops.random import UniformRandom
from netdsl.runtime.session import Session
from netdsl.weights import WeightStore

SEEDS = (0, 1, 12345, 2**31 - 1, -7, 2**40 + 3)


def graph_of(shape: tuple[Dim, ...], streams: tuple[int, ...]) -> Graph:
    builder = GraphBuilder("Random")
    seed = builder.input("seed", TensorType(DType.int64, ()))
    builder.input("x", TensorType(DType.float32, shape[:1] or (1,)))
    for stream in streams:
        builder.output(f"u{stream}", builder.emit(UniformRandom(shape, stream), seed))
    return builder.finish()


def drawn(size: int, stream: int, seed: int) -> NDArrayAny:
    return UniformRandom((size,), stream).evaluate(np.asarray(seed, np.int64))


@pytest.mark.parametrize("opset", range(17, 27))
def test_onnx_gives_the_same_bits(opset: int) -> None:
    shape, streams = (symbol("N"), 3, 7), (0, 1, 5)
    model = to_proto(graph_of(shape, streams), WeightStore(()), opset=opset)
    onnx.checker.check_model(model, full_check=True)
    session = Session(model.SerializeToString(), "cpu", threads=1)
    for seed in SEEDS:
        number = np.asarray(seed, np.int64)
        found = session.run({"seed": number, "x": np.zeros(11, np.float32)})
        for stream in streams:
            expected = UniformRandom((11, 3, 7), stream).evaluate(number)
            np.testing.assert_array_equal(found[f"u{stream}"], expected)
            assert found[f"u{stream}"].dtype == np.float32


def test_the_form_for_cuda_gives_the_same_bits() -> None:
    model = to_proto(graph_of((5, 9), (2,)), WeightStore(()), target=Target("cuda"))
    assert not any(n.op_type == "BitShift" for n in model.graph.node)
    with np.errstate(over="ignore"):
        (found,) = ReferenceEvaluator(model).run(["u2"], {"seed": np.asarray(77, np.int64), "x": np.zeros(5, "f")})
    np.testing.assert_array_equal(found, UniformRandom((5, 9), 2).evaluate(np.asarray(77, np.int64)))


def test_a_scalar() -> None:
    model = to_proto(graph_of((), (3,)), WeightStore(()))
    found = Session(model.SerializeToString(), "cpu").run({"seed": np.asarray(4, np.int64), "x": np.zeros(1, "f")})
    np.testing.assert_array_equal(found["u3"], UniformRandom((), 3).evaluate(np.asarray(4, np.int64)))


@pytest.mark.parametrize(("stream", "seed"), [(1, 0), (1, 1), (2, 0), (40, 2**31 - 1)])
def test_numbers_are_uniform(stream: int, seed: int) -> None:
    """Chi-square over 256 cells of the leading and of the trailing bits; 255 ± 6 deviations."""
    u = drawn(1 << 18, stream, seed)
    assert u.min() >= 0 and u.max() < 1
    bits = (u.astype(np.float64) * 2**24).astype(np.int64)
    assert np.array_equal(bits / 2**24, u)
    for cells in (bits >> 16, bits & 255):
        counts = np.bincount(cells, minlength=256)
        expected = u.size / 256
        chi = float(np.sum((counts - expected) ** 2) / expected)
        assert abs(chi - 255) < 6 * np.sqrt(2 * 255)


def correlation(a: NDArrayAny, b: NDArrayAny) -> float:
    return float(np.corrcoef(a.astype(np.float64), b.astype(np.float64))[0, 1])


@pytest.mark.parametrize("seed", [0, 1, 999])
def test_seeds_streams_and_neighbours_are_independent(seed: int) -> None:
    """Correlations of 65,536 pairs lie within 5 deviations of 0."""
    size, bound = 1 << 16, 5 / 256
    u = drawn(size, 1, seed)
    others = [drawn(size, 1, seed + 1), drawn(size, 2, seed), drawn(size, 2, seed + 1), drawn(size, 1, seed + 2**16)]
    for other in others:
        assert abs(correlation(u, other)) < bound
        assert np.mean(u == other) < 1e-3
    for lag in (1, 2, 3, 64, 1000):
        assert abs(correlation(u[:-lag], u[lag:])) < bound


def test_masks_of_consecutive_steps_are_independent() -> None:
    """What dropout makes of it: the share kept by both of two steps is that of independent draws."""
    masks = [drawn(1 << 14, 3, seed) >= 0.5 for seed in range(40)]
    both = [np.mean(a == b) for a, b in pairwise(masks)]
    assert all(abs(share - 0.5) < 5 * 0.5 / 128 for share in both)
    per_element = np.mean(masks, axis=0)
    assert abs(float(np.var(per_element)) / (0.25 / 40) - 1) < 0.1
