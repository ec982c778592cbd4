"""Gradients and losses against PyTorch, at kinks and ties too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from netdsl.ir.types import NDArrayAny
from netdsl.runtime.interpret import interpret
from netdsl.weights import WeightStore
from tests.autodiff.checking import as_float64, gradients
from tests.ops.harness import Case, graph_of

torch: Any = pytest.importorskip("torch")
pytestmark = pytest.mark.torch
F: Any = torch.nn.functional

#: Limits, zeros and ties among them.
X = np.asarray([[-4.0, -3.0, -0.5, 0.0, 0.0, 1.0], [0.25, 1.0, 3.0, 6.0, 6.0, 7.5]])
T = np.asarray([[-4.0, 1.0, -0.5, 1.0, 0.0, 1.0], [-1.0, 1.0, 3.5, 5.0, 6.0, 2.0]])
IDS = np.asarray([2, 4])

ONE: dict[str, Callable[[Any], Any]] = {
    "relu(x)": F.relu,
    "relu6(x)": F.relu6,
    "leaky_relu(x, 0.2)": lambda x: F.leaky_relu(x, 0.2),
    "elu(x)": F.elu,
    "elu(x, 1.5)": lambda x: F.elu(x, 1.5),
    "selu(x)": F.selu,
    "gelu(x)": F.gelu,
    'gelu(x, "tanh")': lambda x: F.gelu(x, approximate="tanh"),
    "silu(x)": F.silu,
    "mish(x)": F.mish,
    "sigmoid(x)": torch.sigmoid,
    "hard_sigmoid(x)": F.hardsigmoid,
    "tanh(x)": torch.tanh,
    "softplus(x)": F.softplus,
    "softsign(x)": F.softsign,
    "softmax(x)": lambda x: F.softmax(x, -1),
    "log_softmax(x, 0)": lambda x: F.log_softmax(x, 0),
    "clip(x, -3, 6)": lambda x: torch.clamp(x, -3, 6),
    "abs(x)": torch.abs,
    "sign(x)": torch.sign,
    "floor(x)": torch.floor,
    "x ** 2": lambda x: x**2,
    "x ** 0": lambda x: x**0,
    "2 ** x": lambda x: 2**x,
    "maximum(x, 0)": lambda x: torch.maximum(x, torch.zeros(())),
    "max(x, 1)": lambda x: torch.amax(x, 1),
    "max(x)": torch.amax,
    "min(x, 0, true)": lambda x: torch.amin(x, 0, keepdim=True),
    "prod(x, 1)": lambda x: torch.prod(x, 1),
    "prod(x[:, 0:4], 1)": lambda x: torch.prod(x[:, 0:4], 1),
    "mean(x)": torch.mean,
    "variance(x, 1)": lambda x: torch.var(x, 1),
    "norm(x, 1)": lambda x: torch.linalg.vector_norm(x, dim=1),
    "norm(x * 0, 1)": lambda x: torch.linalg.vector_norm(x * 0, dim=1),
    "norm(x, 1, p=1)": lambda x: torch.linalg.vector_norm(x, 1, dim=1),
    "norm(x, 1, p=3)": lambda x: torch.linalg.vector_norm(x, 3, dim=1),
    "cumsum(x)": lambda x: torch.cumsum(x, -1),
    "top_k(x, 3)[0]": lambda x: torch.topk(x, 3)[0],
    "cross_entropy(x, ids)": lambda x: F.cross_entropy(x, torch.tensor(IDS)),
    "cross_entropy(x, ids, 0.1, [1, 2, 3, 4, 5, 6], 4)": lambda x: F.cross_entropy(
        x, torch.tensor(IDS), torch.arange(1.0, 7.0, dtype=x.dtype), ignore_index=4, label_smoothing=0.1
    ),
}
TWO: dict[str, Callable[[Any, Any], Any]] = {
    "maximum(x, t)": torch.maximum,
    "minimum(x, t)": torch.minimum,
    "x * t / (abs(t) + 1) - t": lambda x, t: x * t / (t.abs() + 1) - t,
    "x % (t - 0.25)": lambda x, t: x % (t - 0.25),
    "(x * x) ** abs(t)": lambda x, t: (x * x) ** t.abs(),
    "where(x > t, x, t)": lambda x, t: torch.where(x > t, x, t),
    "categorical_cross_entropy(x, softmax(t))": lambda x, t: F.cross_entropy(x, F.softmax(t, -1)),
    "binary_cross_entropy(x, t)": F.binary_cross_entropy_with_logits,
    "mse(x, t)": F.mse_loss,
    "mae(x, t)": F.l1_loss,
    "huber(x, t)": F.huber_loss,
    "huber(x, t, 2.5)": lambda x, t: F.huber_loss(x, t, delta=2.5),
    "kl_divergence(log_softmax(x), softmax(t))": lambda x, t: F.kl_div(
        F.log_softmax(x, -1), F.softmax(t, -1), reduction="batchmean"
    ),
}


def _found(expression: str, arrays: dict[str, NDArrayAny]) -> tuple[NDArrayAny, list[NDArrayAny]]:
    """The value, and the gradients of the sum of its elements times 1, 2, 3, …"""
    declared = {"x": "float64[N, 6]", "t": "float64[N, 6]", "ids": "int64[N]"}
    source = " ".join(f"input {name}: {declared[name]}" for name in arrays)
    graph = as_float64(graph_of(Case("torch", f"{source} output y = {expression}", {})))
    value = interpret(graph, arrays, WeightStore(graph.parameters))["y"]
    given = {v: arrays[v.name] for v in graph.inputs}
    sources = [v for v in graph.inputs if v.dtype.is_float]
    weights = {graph.outputs[0].value: np.asarray(np.arange(1.0, value.size + 1).reshape(value.shape))}
    found = gradients(graph, sources, given, {"N": 2}, weights)
    return value, [found[v] for v in sources]


def _expected(function: Callable[..., Any], *arrays: NDArrayAny) -> tuple[NDArrayAny, list[NDArrayAny]]:
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    value = function(*tensors)
    weights = torch.arange(1, value.numel() + 1, dtype=value.dtype).reshape(value.shape)
    found = torch.autograd.grad((value * weights).sum(), tensors)
    return value.detach().numpy(), [g.numpy() for g in found]


def _compare(found: tuple[NDArrayAny, list[NDArrayAny]], expected: tuple[NDArrayAny, list[NDArrayAny]]) -> None:
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-7, atol=1e-12)
    for one, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("expression", ONE)
def test_of_one(expression: str) -> None:
    arrays = {"x": X, "ids": IDS} if "ids" in expression else {"x": X}
    _compare(_found(expression, arrays), _expected(ONE[expression], X))


@pytest.mark.parametrize("expression", TWO)
def test_of_two(expression: str) -> None:
    _compare(_found(expression, {"x": X, "t": T}), _expected(TWO[expression], X, T))
