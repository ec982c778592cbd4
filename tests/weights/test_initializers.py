"""Draws: their distribution, and what they depend on."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from netdsl.ir.graph import Parameter, Value
from netdsl.ir.initializer import Initializer
from netdsl.ir.types import DType, TensorType
from netdsl.weights import WeightStore
from netdsl.weights.initializers import CHUNK, distribution

SHAPE = (640, 320)


def parameter(name, init, shape=SHAPE, dtype=DType.float32):
    return Parameter(Value(name, TensorType(dtype, shape)), init)


def draw(one, **options):
    return WeightStore([one], **options).array(one)


def init(name, *arguments):
    return Initializer(name, arguments, fan_in=320, fan_out=640)


MOMENTS = {
    "zeros": (init("zeros"), 0, 0),
    "ones": (init("ones"), 1, 0),
    "constant": (init("constant", 2.5), 2.5, 0),
    "uniform": (init("uniform", -1.0, 3.0), 1, 4 / sqrt(12)),
    "uniform_default": (init("uniform"), 0.5, 1 / sqrt(12)),
    "normal": (init("normal", 0.5, 2.0), 0.5, 2),
    "normal_default": (init("normal"), 0, 1),
    "truncated_normal": (init("truncated_normal", 1.0, 0.5), 1, 0.5 * 0.87963),
    "xavier_uniform": (init("xavier_uniform"), 0, sqrt(2 / 960)),
    "xavier_normal": (init("xavier_normal"), 0, sqrt(2 / 960)),
    "he_uniform": (init("he_uniform"), 0, sqrt(2 / 320)),
    "he_normal": (init("he_normal"), 0, sqrt(2 / 320)),
    "lecun_uniform": (init("lecun_uniform"), 0, sqrt(1 / 320)),
    "lecun_normal": (init("lecun_normal"), 0, sqrt(1 / 320)),
    "orthogonal": (init("orthogonal"), 0, sqrt(1 / 640)),
}


def test_every_initializer_is_here():
    assert set(Initializer.SIGNATURES) <= set(MOMENTS)


@pytest.mark.parametrize("name", MOMENTS)
def test_mean_and_deviation(name):
    initializer, mean, std = MOMENTS[name]
    values = draw(parameter("w", initializer)).astype(np.float64)
    assert values.shape == SHAPE
    error = std / sqrt(values.size)
    assert abs(values.mean() - mean) <= 5 * error
    assert values.std() == pytest.approx(std, rel=0.01)


@pytest.mark.parametrize("scheme", ["xavier", "he", "lecun"])
def test_uniform_schemes_stay_within_sqrt3_std(scheme):
    values = draw(parameter("w", init(f"{scheme}_uniform")))
    limit = sqrt(3) * distribution(init(f"{scheme}_normal")).b
    assert np.abs(values).max() == pytest.approx(limit, rel=1e-3)
    assert np.abs(values).max() <= limit * 1.000001


def test_truncated_normal_is_cut_at_two_deviations():
    values = draw(parameter("w", init("truncated_normal", 1.0, 0.5)))
    assert values.min() >= 0 and values.max() <= 2
    assert values.min() == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("shape", [(64, 16, 3, 3), (64, 16), (16, 64), (7,), ()])
def test_orthogonal(shape):
    matrix = draw(parameter("w", init("orthogonal", 2.0), shape)).reshape(shape[0] if shape else 1, -1)
    short = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    np.testing.assert_allclose(short @ short.T, 4 * np.eye(len(short)), atol=1e-5)


@pytest.mark.parametrize("name", ["uniform", "normal", "truncated_normal", "he_normal", "orthogonal"])
def test_threads_change_nothing(name):
    one = parameter("w", init(name), (3, CHUNK // 2 + 7)) if name != "orthogonal" else parameter("w", init(name))
    expected = draw(one, threads=1)
    assert np.array_equal(draw(one, threads=5), expected)


def test_draw_depends_on_seed_and_name_alone():
    one, other = parameter("a.weight", init("normal")), parameter("b.weight", init("normal"))
    alone = draw(one)
    assert np.array_equal(WeightStore([other, one]).array(one), alone)
    assert np.array_equal(draw(parameter("a.weight", init("normal", 0.0, 2.0))), alone * 2)
    assert not np.array_equal(draw(other), alone)
    assert not np.array_equal(draw(one, seed=1), alone)


def test_chunks_of_one_parameter_differ():
    values = draw(parameter("w", init("normal"), (2, CHUNK)))
    assert not np.array_equal(values[0, :100], values[1, :100])


@pytest.mark.parametrize("dtype", [DType.float16, DType.bfloat16, DType.float64])
def test_other_element_types(dtype):
    values = draw(parameter("w", init("normal"), dtype=dtype))
    assert values.dtype == dtype.numpy
    assert values.astype(np.float64).std() == pytest.approx(1, rel=0.02)
    if dtype is not DType.float64:
        assert np.array_equal(values, draw(parameter("w", init("normal"))).astype(dtype.numpy))


@pytest.mark.parametrize("dtype", [DType.int64, DType.bool, DType.uint8])
def test_integers_and_booleans_take_constants(dtype):
    assert np.array_equal(draw(parameter("w", init("ones"), (3,), dtype)), np.ones(3, dtype.numpy))


def test_perturbed_store_leaves_nothing_trivial():
    parts = [parameter("mean", init("zeros")), parameter("var", init("ones")), parameter("w", init("he_normal"))]
    store, perturbed = WeightStore(parts), WeightStore(parts).perturbed()
    mean, var, weight = (perturbed.array(p) for p in parts)
    assert mean.std() > 0.1
    assert var.min() >= 0.5 and var.std() > 0.1
    assert np.array_equal(weight, store.array(parts[2]))
