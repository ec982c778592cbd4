"""Gradients where finite differences say nothing: at kinks, ties and zeros. They are PyTorch's (see test_torch)."""

from __future__ import annotations

import numpy as np
import pytest

from tests.autodiff.checking import as_float64, gradients
from tests.ops.harness import Case, graph_of


@pytest.mark.parametrize(
    ("expression", "x", "expected"),
    [
        ("relu(x)", [-1, 0, 1], [0, 0, 1]),
        ("relu6(x)", [0, 1e-9, 6], [0, 1, 0]),
        ("leaky_relu(x, 0.5)", [-1, 0, 1], [0.5, 0.5, 1]),
        ("leaky_relu(x, -0.5)", [-1, 0, 1], [-0.5, -0.5, 1]),
        ("elu(x, -0.5)", [-1, 0, 1], [-0.5 / np.e, -0.5, 1]),
        ("clip(x, -1, 2)", [-1, 2, 3], [1, 1, 0]),
        ("abs(x)", [-1, 0, 1], [-1, 0, 1]),
        ("maximum(x, 1)", [0, 1, 2], [0, 0.5, 1]),
        ("minimum(x, 1)", [0, 1, 2], [1, 0.5, 0]),
        ("max(x)", [2, 1, 2], [0.5, 0, 0.5]),
        ("min(x)", [1, 1, 1], [1 / 3, 1 / 3, 1 / 3]),
        ("prod(x)", [2, 3, 4], [12, 8, 6]),
        ("prod(x)", [2, 0, 4], [0, 8, 0]),
        ("prod(x)", [2, 0, 0], [0, 0, 0]),
        ("norm(x)", [0, 0, 0], [0, 0, 0]),
        ("norm(x, p=3)", [0, 0, 0], [0, 0, 0]),
        ("norm(x, p=0.5)", [0, 4, 0], [0, 1, 0]),
        ("rmse(x, x - 0)", [1, 2, 3], [0, 0, 0]),
        ("rmse(x, x - 1)", [1, 2, 3], [0, 0, 0]),
        ("x ** 0", [-1, 0, 1], [0, 0, 0]),
        ("x ** 1", [-1, 0, 1], [1, 1, 1]),
        ("x ** 3", [-1, 0, 1], [3, 0, 3]),
        ("floor(x)", [0.5, 1, 2], [0, 0, 0]),
        ("x // 2", [0.5, 2, 3], [0, 0, 0]),
        ("x % 2", [0.5, 2, 3], [1, 1, 1]),
        ("cast(cast(x, int32), float64) * x", [1.5, 2, 3.5], [1, 2, 3]),
        ("x * cast(argmax(x), float64)", [1, 5, 3], [1, 1, 1]),
        ("top_k(x, 2)[0]", [2, 1, 2], [1, 0, 1]),
        ("huber(x, 0 * x, 2)", [-2, 2, 3], [-2 / 3, 2 / 3, 2 / 3]),
    ],
)
def test_gradient(expression: str, x: list[float], expected: list[float]) -> None:
    graph = as_float64(graph_of(Case("kink", f"input x: float64[3] output y = {expression}", {})))
    (value,), (output,) = graph.inputs, graph.outputs
    weights = {output.value: np.ones([int(d) for d in output.value.shape])}  # type: ignore[arg-type]  # integers
    found = gradients(graph, [value], {value: np.asarray(x, np.float64)}, {}, weights)
    np.testing.assert_allclose(found[value], expected, rtol=1e-9, atol=1e-12)
