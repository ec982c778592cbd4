"""dropout and drop_path in training: what is kept, how it is scaled, that gradients pass where values did."""

from __future__ import annotations

import numpy as np
import pytest

from netdsl.autodiff.backward import backward
from netdsl.autodiff.extend import Extension
from netdsl.autodiff.training_mode import to_training
from netdsl.ir.build import GraphBuilder
from netdsl.ir.graph import Value
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops.layer import Layer
from netdsl.ops.regularisation import Dropout, DropPath, Regularisation
from tests.autodiff.checking import run
from tests.ops.building import tensor

SHAPE = (400, 3, 5)


def trained(op: Regularisation, seed: int, dtype: str = "float32") -> tuple[NDArrayAny, NDArrayAny]:
    """The output in training mode for an input of ones, and the gradient of its sum."""
    builder = GraphBuilder("T")
    x = builder.input("x", tensor(dtype, "N", *SHAPE[1:]))
    y = Layer(builder, "layer").emit(op, x)
    builder.output("y", y)
    graph = builder.finish()
    extension = Extension(graph)
    number = Value(extension.names.take("seed"), TensorType(DType.int64, ()))
    form = to_training(extension, graph.nodes, number, frozenset())
    end = form.values[y]
    nodes = tuple(extension.nodes)
    ones = Value(extension.names.take("ones"), end.type)
    gradient = backward(extension, nodes, {end: ones}, [x])[x]
    given = np.ones(SHAPE, DType[dtype].numpy)
    values = run(extension.nodes, {x: given, ones: given, number: np.asarray(seed, np.int64)}, {"N": SHAPE[0]})
    return values[end], values[gradient]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_dropout(dtype: str) -> None:
    y, gradient = trained(Dropout(0.25), 1, dtype)
    kept = y != 0
    np.testing.assert_allclose(y[kept].astype(np.float64), 1 / 0.75, rtol=4e-3)
    assert abs(kept.mean() - 0.75) < 0.03
    np.testing.assert_array_equal(gradient, y)  # the same mask on the way back
    assert y.dtype == DType[dtype].numpy


def test_other_seeds_drop_other_elements() -> None:
    first, again, other = (trained(Dropout(0.5), seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert 0.4 < np.mean((first != 0) == (other != 0)) < 0.6


def test_drop_path_drops_whole_items() -> None:
    y, gradient = trained(DropPath(0.2), 3)
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1, :1], SHAPE))
    kept = y[:, 0, 0] != 0
    np.testing.assert_allclose(y[kept], 1.25)
    assert abs(kept.mean() - 0.8) < 0.08
    np.testing.assert_array_equal(gradient, y)


def test_a_rate_of_0_is_the_identity() -> None:
    y, gradient = trained(Dropout(0.0), 1)
    np.testing.assert_array_equal(y, 1)
    np.testing.assert_array_equal(gradient, 1)
