"""Weight arithmetic: float64 inside, one rounding, shared work done once, little memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from netdsl.ir.build import GraphBuilder
from netdsl.ir.dims import symbol
from netdsl.ir.initializer import Initializer
from netdsl.ir.types import Array, DType
from netdsl.ops.arithmetic import Add, Mul
from netdsl.ops.constant import Cast, Constant
from netdsl.ops.shape import Expand, Reshape
from netdsl.ops.unary import Rsqrt
from netdsl.weights import ConstantEvaluator, WeightStore
from netdsl.weights.blocks import LARGE

NORMAL = Initializer("normal")
UNIFORM = Initializer("uniform", (0.5, 1.5))


class Program:
    """A graph of parameters and arithmetic on them."""

    def __init__(self):
        self.builder = GraphBuilder("g")

    def parameter(self, name, shape, init=NORMAL, dtype=DType.float32):
        return self.builder.parameter(name, shape, init, dtype=dtype).value

    def emit(self, op, *inputs):
        return self.builder.emit(op, *inputs)

    def number(self, value, dtype=np.float32):
        return self.emit(Constant(Array(np.asarray(value, dtype))))

    def evaluator(self, **options):
        graph = self.builder.finish()
        self.store = WeightStore(graph.parameters, **options)
        return ConstantEvaluator(graph, self.store)

    def drawn(self, value):
        return self.store.array(next(p for p in self.builder.parameters if p.value is value))


def test_computed_in_float64_and_rounded_once():
    p = Program()
    w, var = p.parameter("w", (64, 3, 3, 3)), p.parameter("var", (64,), UNIFORM)
    scale = p.emit(Reshape((64, 1, 1, 1)), p.emit(Rsqrt(), p.emit(Add(), var, p.number(1e-5))))
    folded = p.emit(Mul(), w, scale)
    found = p.evaluator().array(folded)
    exact = p.drawn(w).astype(np.float64) / np.sqrt(
        p.drawn(var).astype(np.float64) + np.float64(np.float32(1e-5))
    ).reshape(-1, 1, 1, 1)
    assert found.dtype == np.float32
    assert np.array_equal(found, exact.astype(np.float32))


def test_conversion_to_float32_in_the_middle_rounds_nothing_to_float16_does():
    p = Program()
    w = p.parameter("w", (1000,))
    third = p.emit(Mul(), w, p.number(1 / 3))
    through32 = p.emit(Mul(), p.emit(Cast(DType.float32), third), p.number(3))
    through16 = p.emit(Mul(), p.emit(Cast(DType.float32), p.emit(Cast(DType.float16), third)), p.number(3))
    evaluator = p.evaluator()
    exact = p.drawn(w).astype(np.float64) * np.float64(np.float32(1 / 3))
    assert np.array_equal(evaluator.array(through32), (exact * 3).astype(np.float32))
    assert np.array_equal(
        evaluator.array(through16), (exact.astype(np.float16).astype(np.float64) * 3).astype(np.float32)
    )


@pytest.mark.parametrize("dtype", [DType.float16, DType.bfloat16])
def test_sixteen_bit_results(dtype):
    p = Program()
    a, b = p.parameter("a", (500,), dtype=dtype), p.parameter("b", (500,), dtype=dtype)
    product = p.emit(Mul(), a, b)
    found = p.evaluator().array(product)
    exact = p.drawn(a).astype(np.float64) * p.drawn(b).astype(np.float64)
    assert found.dtype == dtype.numpy
    assert np.array_equal(found, exact.astype(dtype.numpy))


def test_integers_stay_integers():
    p = Program()
    found = p.emit(Add(), p.number([2**53, 1], np.int64), p.number([1, 1], np.int64))
    assert p.evaluator().array(found).tolist() == [2**53 + 1, 2]


def test_stream_gives_all_in_order_and_draws_each_parameter_once(monkeypatch):
    p = Program()
    w, s = p.parameter("w", (8, 4)), p.parameter("s", (4,), UNIFORM)
    scaled = p.emit(Mul(), w, s)
    twice = p.emit(Add(), scaled, scaled)
    evaluator = p.evaluator()
    started = []
    original = WeightStore.start
    monkeypatch.setattr(WeightStore, "start", lambda self, one: started.append(one.name) or original(self, one))
    found = list(evaluator.stream([twice, s, scaled]))
    assert [v for v, _ in found] == [twice, s, scaled]
    assert np.allclose(found[0][1], 2 * found[2][1])
    assert started == ["w", "s"]


def test_a_long_chain_needs_no_recursion():
    p = Program()
    value = p.parameter("w", (4,))
    one = p.number(1)
    for _ in range(20_000):
        value = p.emit(Add(), value, one)
    evaluator = p.evaluator()
    assert evaluator.array(value) == pytest.approx(p.drawn(p.builder.parameters[0].value) + 20_000)


def test_what_depends_on_a_symbol_is_no_constant():
    p = Program()
    wide = p.emit(Expand((symbol("N"), 4)), p.parameter("w", (4,)))
    with pytest.raises(KeyError):
        p.evaluator().array(wide)


def test_large_arithmetic_goes_in_blocks():
    """A float32 weight times a scale peaks at little more than the two arrays; in one go it would be six times one."""
    p = Program()
    rows = 128
    w, s = p.parameter("w", (rows, LARGE // rows)), p.parameter("s", (rows, 1), UNIFORM)
    product = p.emit(Mul(), w, s)
    evaluator = p.evaluator()
    tracemalloc.start()
    found = evaluator.array(product)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.6 * found.nbytes
    exact = p.drawn(w).astype(np.float64) * p.drawn(s)
    assert np.array_equal(found, exact.astype(np.float32))


def test_streaming_holds_one_weight_and_those_ahead(monkeypatch):
    monkeypatch.setattr("netdsl.weights.fold.AHEAD", 1 << 20)
    p = Program()
    values = [p.parameter(f"w{i}", (1 << 18,)) for i in range(40)]  # 1 MB each
    evaluator = p.evaluator()
    tracemalloc.start()
    for _, array in evaluator.stream(values):
        del array
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 << 20
