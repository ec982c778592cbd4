"""Activations and normalisations that are written out, and what follows a normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netdsl import compile_source
from netdsl.passes import optimize
from tests.passes.support import operators
from tests.strategies.graphs import Net, assert_same_outputs

ERF, ROOT = "1.4142135623730951", "0.7978845608028654"

ACTIVATIONS = {
    "silu": ["x * sigmoid(x)", "sigmoid(x) * x"],
    "mish": ["x * tanh(softplus(x))"],
    "hard_swish": [
        "x * hard_sigmoid(x)",
        "x * relu6(x + 3.0) / 6.0",
        "x * (clip(x + 3.0, 0.0, 6.0) / 6.0)",
        "relu6(3.0 + x) * (x * 0.16666666666666666)",
    ],
    "gelu": [
        f"x * 0.5 * (1.0 + erf(x / {ERF}))",
        "0.5 * (x * (erf(x * 0.7071067811865476) + 1.0))",
        f"x * (1.0 + erf(x / {ERF})) / 2.0",
        f"0.5 * x * (1.0 + tanh({ROOT} * (x + 0.044715 * x ** 3.0)))",
        f"0.5 * x * (1.0 + tanh((0.044715 * x * x * x + x) * {ROOT}))",
    ],
}


def _ops(text: str, dtype: str = "float64", shape: str = "N, 6, 4, 5") -> tuple[list[str], Any]:
    """The operators of `y = text` once compiled, and the comparison of the outputs before and after."""
    model = compile_source(f"network T {{ input x: {dtype}[{shape}] {text} }}")
    return operators(model.graph), model.verify()


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in ACTIVATIONS.items() for text in texts])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activation(name: str, text: str, dtype: str) -> None:
    found, comparison = _ops(f"output y = {text}", dtype)
    assert found == [name]
    assert comparison.worst.relative < (1e-6 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "x * sigmoid(x + 1.0)",
        "2.0 * (x * relu6(x + 3.0))",
        "x * relu6(x + 2.0) / 6.0",
        f"x * 0.4 * (1.0 + erf(x / {ERF}))",
        "x * 0.5 * (1.0 + erf(x / 1.41))",
        f"x * 0.5 * (2.0 + erf(x / {ERF}))",
        f"0.5 * x * (1.0 + tanh({ROOT} * (x + 0.044 * x ** 3.0)))",
        f"0.5 * x * (1.0 + tanh({ROOT} * (x + 0.044715 * x ** 2.0)))",
        "x / sigmoid(x)",
    ],
)
def test_what_only_looks_like_one(text: str) -> None:
    found, comparison = _ops(f"output y = {text}")
    assert not {"silu", "hard_swish", "gelu"} & set(found)
    assert comparison.ok


def test_a_part_that_others_read_stays() -> None:
    found, _ = _ops("s = sigmoid(x) output y = x * s output z = s")
    assert sorted(found) == ["mul", "sigmoid"]


CENTRED = "m = mean(x, axes={a}, keep=true) d = x - m "
NORMS = {
    "squares": CENTRED + "v = mean(d * d, axes={a}, keep=true) n = d / sqrt(v + 1e-5) ",
    "power": CENTRED + "v = mean(d ** 2.0, axes={a}, keep=true) n = d * rsqrt(v + 1e-5) ",
    "twice": CENTRED + "e = x - m v = mean(e * e, axes={a}, keep=true) n = d / sqrt(1e-5 + v) ",
    "variance": CENTRED + "v = variance(x, axes={a}, keep=true, correction=0) n = d / sqrt(v + 1e-5) ",
}


@pytest.mark.parametrize("form", NORMS)
@pytest.mark.parametrize(
    ("axes", "affine", "name"),
    [
        ("-1", "param w: float32[5] = ones param b: float32[5] = zeros output y = n * w + b", "layer_norm"),
        ("-1", "output y = n * 2.0", "layer_norm"),
        ("[1, 2, 3]", "output y = n", "layer_norm"),
        ("[2, 3]", "param w: float32[6, 1, 1] = ones output y = n * w - 1.0", "instance_norm"),
    ],
)
def test_norm(form: str, axes: str, affine: str, name: str) -> None:
    for dtype in ("float32", "float64"):
        found, comparison = _ops((NORMS[form].format(a=axes) + affine).replace("float32", dtype), dtype)
        assert (found == [name]) is (dtype == "float32" or name == "layer_norm")
        assert comparison.worst.relative < (1e-6 if dtype == "float32" else 1e-9)


def test_rms_norm() -> None:
    text = "v = mean(x * x, axes=-1, keep=true) param w: float64[5] = ones output y = x * rsqrt(v + 1e-6) * w"
    found, comparison = _ops(text)
    assert found == ["rms_norm"]
    assert comparison.worst.relative < 1e-12


@pytest.mark.parametrize("sizes", ["4, 5", "H, W"])
@pytest.mark.parametrize("inside", ["instance_norm(r)", "d / sqrt(v + 1e-5)"])
def test_group_norm(sizes: str, inside: str) -> None:
    text = (
        "r = reshape(x, (x.shape[0], 2, 3 * x.shape[2] * x.shape[3])) "
        "m = mean(r, axes=-1, keep=true) d = r - m v = mean(d * d, axes=-1, keep=true) "
        f"n = {inside} param w: float32[6, 1, 1] = ones param b: float32[6, 1, 1] = zeros "
        "output y = reshape(n, x.shape) * w + b"
    )
    found, comparison = _ops(text, "float32", f"N, 6, {sizes}")
    assert found == ["group_norm"]
    assert comparison.worst.relative < 1e-6


NOT_NORMS = {
    "unbiased": "m = mean(x, axes=-1, keep=true) output y = (x - m) / sqrt(variance(x, axes=-1, keep=true) + 1e-5)",
    "other axes": "m = mean(x, axes=-2, keep=true) d = x - m v = mean(d * d, axes=-1, keep=true) "
    "output y = d / sqrt(v + 1e-5)",
    "symbolic": "m = mean(x, axes=0, keep=true) d = x - m v = mean(d * d, axes=0, keep=true) "
    "output y = d / sqrt(v + 1e-5)",
    "the mean is read": CENTRED.format(a="-1") + "v = mean(d * d, axes=-1, keep=true) n = d / sqrt(v + 1e-5) "
    "output y = n output z = m",
    "the other way up": CENTRED.format(a="-1") + "v = mean(d * d, axes=-1, keep=true) output y = d / rsqrt(v + 1e-5)",
}


@pytest.mark.parametrize("name", NOT_NORMS)
def test_what_is_no_norm(name: str) -> None:
    found, comparison = _ops(NOT_NORMS[name])
    assert not {"layer_norm", "instance_norm"} & set(found)
    assert comparison.ok


@pytest.mark.parametrize("norm", ["batch_norm", "instance_norm", "instance_norm affine", "group_norm", "layer_norm"])
def test_scale_and_shift_behind_a_norm(norm: str) -> None:
    net = Net()
    x = net.op("relu", net.input(2, 6, 4, 5))
    more: dict[str, Any] = {"groups": 3} if norm == "group_norm" else {"axes": (1,)} if norm == "layer_norm" else {}
    more |= {"affine": True} if "affine" in norm else {}
    y = net.op(norm.split()[0], x, **more)
    y = net.op("multiply", [y, net.constant(np.arange(1.0, 7).reshape(6, 1, 1))])
    y = net.op("batch_norm", net.op("add", [y, net.constant(np.float64(3))]))
    graph = net.finish(y=y)
    result = optimize(graph, check=True)
    assert operators(result) == ["relu", norm.split()[0]]
    assert_same_outputs(graph, result)


def test_norms_whose_weights_or_output_have_other_readers_stay() -> None:
    net = Net()
    n = net.op("layer_norm", net.input(2, 6, 4, 5))
    graph = net.finish(y=net.op("multiply", [n, net.constant(np.float64(2))]), z=n)
    assert operators(optimize(graph)) == ["layer_norm", "mul"]
