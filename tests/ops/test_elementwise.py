"""Activations and elementary functions: formulas, element types, costs, refusals."""

from __future__ import annotations

from collections.abc import Callable
from math import erf, exp, log, log1p, sqrt, tanh
from typing import Any

import numpy as np
import pytest

from netdsl.ir.dims import symbol
from netdsl.ir.initializer import Initializer
from netdsl.ir.opdef import OpError, Primitive, ShapeError
from netdsl.ir.reach import POINTWISE, WHOLE
from netdsl.ir.types import DType
from netdsl.ops import OPERATORS, PRIMITIVES
from netdsl.ops.elementwise import Elementwise
from tests.ops.building import Bench, result, tensor

POINTS = [-30.0, -4.0, -3.0, -2.5, -1.0, -0.5, -1e-3, 0.0, 0.3, 0.5, 1.5, 2.5, 3.0, 7.0, 40.0]


def sigma(x: float) -> float:
    return 1 / (1 + exp(-x))


#: (arguments, the formula in Python's own mathematics, operations per element)
FORMULAS: dict[str, tuple[dict[str, Any], Callable[[float], float], int]] = {
    "relu": ({}, lambda x: max(x, 0), 1),
    "relu6": ({}, lambda x: min(max(x, 0), 6), 2),
    "leaky_relu": ({}, lambda x: x if x >= 0 else 0.01 * x, 1),
    "elu": ({}, lambda x: x if x > 0 else exp(x) - 1, 3),
    "selu": ({}, lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * (exp(x) - 1)), 4),
    "gelu": ({}, lambda x: x / 2 * (1 + erf(x / sqrt(2))), 5),
    "silu": ({}, lambda x: x * sigma(x), 5),
    "mish": ({}, lambda x: x * tanh(log1p(exp(x))), 5),
    "sigmoid": ({}, sigma, 4),
    "hard_sigmoid": ({}, lambda x: min(max(x / 6 + 0.5, 0), 1), 4),
    "hard_swish": ({}, lambda x: x * min(max(x + 3, 0), 6) / 6, 5),
    "tanh": ({}, tanh, 1),
    "softplus": ({}, lambda x: log1p(exp(x)), 3),
    "softsign": ({}, lambda x: x / (1 + abs(x)), 3),
    "clip": ({"min": -1, "max": 2.5}, lambda x: min(max(x, -1), 2.5), 2),
    "abs": ({}, abs, 1),
    "exp": ({}, exp, 1),
    "sin": ({}, np.sin, 1),
    "cos": ({}, np.cos, 1),
    "erf": ({}, erf, 1),
    "sign": ({}, lambda x: (x > 0) - (x < 0), 0),
    "floor": ({}, np.floor, 1),
    "ceil": ({}, np.ceil, 1),
    "round": ({}, round, 1),
    "neg": ({}, lambda x: -x, 1),
}
POSITIVE: dict[str, tuple[Callable[[float], float], int]] = {
    "log": (log, 1),
    "sqrt": (sqrt, 1),
    "rsqrt": (lambda x: 1 / sqrt(x), 2),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_formula(name: str) -> None:
    arguments, formula, _ = FORMULAS[name]
    expected = [formula(x) for x in POINTS]
    np.testing.assert_allclose(result(name, np.asarray(POINTS), **arguments), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", POSITIVE)
def test_formula_of_positive_numbers(name: str) -> None:
    points = [0.1, 1.0, 4.0, 1e4]
    np.testing.assert_allclose(result(name, np.asarray(points)), [POSITIVE[name][0](x) for x in points], rtol=1e-14)


def test_every_elementwise_operator_has_a_formula_here() -> None:
    others = {"identity", "softmax", "log_softmax"}
    table = {n for n, op in PRIMITIVES.items() if issubclass(op, Elementwise)}
    assert table == FORMULAS.keys() | POSITIVE.keys() | others


@pytest.mark.parametrize("name", [*FORMULAS, *POSITIVE, "softmax", "log_softmax"])
@pytest.mark.parametrize("dtype", [t for t in DType if t.is_float], ids=str)
def test_element_type_and_shape_stay(name: str, dtype: DType) -> None:
    x = np.linspace(0.25, 4, 24).reshape(2, 3, 4).astype(dtype.numpy)
    arguments = FORMULAS[name][0] if name in FORMULAS else {}
    y = result(name, x, **arguments)
    assert y.dtype == dtype.numpy
    exact = result(name, x.astype(np.float64), **arguments)
    rounding = 2.0 ** {"bfloat16": -8, "float16": -11, "float32": -22, "float64": -50}[str(dtype)]
    np.testing.assert_allclose(y.astype(np.float64), exact, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("name", [*FORMULAS, *POSITIVE])
def test_cost(name: str) -> None:
    arguments, count = (FORMULAS[name][0], FORMULAS[name][2]) if name in FORMULAS else ({}, POSITIVE[name][1])
    bench = Bench(tensor("float32", "N", 3, 4))
    y = bench.call(name, bench.inputs[0], **arguments)
    (node,) = bench.builder.nodes
    cost = node.op.cost([bench.inputs[0].type], [y.type])
    assert (cost.macs, cost.flops) == (0, 12 * count * symbol("N"))


@pytest.mark.parametrize("name", ["sigmoid", "softplus", "mish", "silu", "softmax", "log_softmax", "gelu", "elu"])
def test_no_overflow(name: str) -> None:
    y = result(name, np.asarray([-1e4, 1e4], np.float32))
    assert np.isfinite(y).all()


def test_gelu_by_tanh() -> None:
    x = np.linspace(-4, 4, 41)
    exact, approximate = result("gelu", x), result("gelu", x, approximate="tanh")
    difference = np.abs(exact - approximate).max()
    assert 1e-4 < difference < 5e-4


def test_round_halves_to_even() -> None:
    np.testing.assert_array_equal(result("round", np.asarray([0.5, 1.5, 2.5, -0.5])), [0, 2, 2, 0])


@pytest.mark.parametrize("name", ["relu", "relu6", "abs", "sign", "neg", "clip"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_integers(name: str, dtype: str) -> None:
    x = np.asarray([0, 1, 5, 9], dtype)
    arguments = {"min": 1, "max": 5} if name == "clip" else {}
    y = result(name, x, **arguments)
    expected = {"relu": x, "relu6": [0, 1, 5, 6], "abs": x, "sign": [0, 1, 1, 1], "neg": -x, "clip": [1, 1, 5, 5]}[name]
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax(axis: int) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 5))
    y = result("softmax", x, axis=axis)
    np.testing.assert_allclose(y, np.exp(x) / np.exp(x).sum(axis, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(result("log_softmax", x, axis=axis), np.log(y), rtol=1e-12)


def test_softmax_over_space_sees_everything() -> None:
    x = tensor("float32", 1, 3, 8, 9)
    softmax = PRIMITIVES["softmax"]
    assert [softmax(axis=a).reach([x], [x]) for a in (1, 2, 3)] == [POINTWISE, WHOLE, WHOLE]  # type: ignore[call-arg]


def test_identity_is_the_tensor_itself() -> None:
    bench = Bench(tensor("bool", 2))
    assert bench.call("identity", bench.inputs[0]) is bench.inputs[0]
    assert not bench.builder.nodes


@pytest.mark.parametrize(("channelwise", "shape"), [(False, (1,)), (True, (3,))])
def test_prelu(channelwise: bool, shape: tuple[int, ...]) -> None:
    bench = Bench(tensor("float32", "N", 3, 4, 5))
    y = bench.call("prelu", bench.inputs[0], channelwise=channelwise)
    (weight,) = bench.builder.parameters
    assert (weight.name, weight.value.shape) == ("layer.weight", shape)
    assert weight.initializer == Initializer("constant", (0.25,))
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    slopes = np.linspace(0.1, 0.5, shape[0]).astype(np.float32)
    found = bench.run({bench.inputs[0]: x, weight.value: slopes}, {"N": 2})[y]
    np.testing.assert_array_equal(found, np.where(x < 0, x * slopes.reshape(-1, 1, 1), x))


@pytest.mark.parametrize(
    ("name", "type", "arguments", "words"),
    [
        ("sigmoid", ("int64", 3), {}, "sigmoid needs a float tensor, found int64[3]"),
        ("softmax", ("int64", 3), {}, "softmax needs a float tensor, found int64[3]"),
        ("softmax", ("float32", 3), {"axis": 1}, "softmax: axis 1 is out of range for a tensor of rank 1"),
        ("softmax", ("float32",), {}, "softmax: axis -1 is out of range for a tensor of rank 0"),
        ("relu", ("bool", 3), {}, "relu needs a tensor of numbers, found bool[3]"),
        ("clip", ("float32", 3), {}, "clip needs a lower or an upper limit"),
        ("clip", ("int32", 3), {"max": 0.5}, "clip: the float 0.5 does not mix with int32"),
        ("clip", ("uint8", 3), {"min": -1}, "clip: -1 is no value of uint8, which holds 0 to 255"),
        ("prelu", ("float32", 3), {"channelwise": True}, "prelu needs a tensor of rank 2 or more"),
        ("prelu", ("float32", 3, "C"), {"channelwise": True}, "layer.weight would have the symbolic dimension C"),
        ("prelu", ("int32", 3), {}, "prelu needs a float tensor"),
    ],
)
def test_refusals(name: str, type: tuple[Any, ...], arguments: dict[str, Any], words: str) -> None:
    bench = Bench(tensor(*type))
    with pytest.raises(OpError) as caught:
        bench.call(name, bench.inputs[0], **arguments)
    assert words in caught.value.message
    assert not bench.builder.parameters


def test_a_weight_that_does_not_fit_prelu() -> None:
    with pytest.raises(ShapeError, match="prelu: weight"):
        PRIMITIVES["prelu"]().infer(tensor("float32", 2, 3), tensor("float32", 4))  # type: ignore[call-arg]


@pytest.mark.torch
@pytest.mark.parametrize("name", [*FORMULAS, *POSITIVE, "softmax", "log_softmax"])
def test_like_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    renamed = {"hard_sigmoid": "hardsigmoid", "hard_swish": "hardswish", "clip": "clamp"}.get(name, name)
    function = getattr(torch, renamed, None) or getattr(functional, renamed)
    arguments = FORMULAS[name][0] if name in FORMULAS else {"axis": 1} if "softmax" in name else {}
    x = np.random.default_rng(1).normal(size=(3, 5)) * 3
    x = np.abs(x) if name in POSITIVE else x
    expected = function(torch.from_numpy(x), **{"dim" if k == "axis" else k: v for k, v in arguments.items()})
    np.testing.assert_allclose(result(name, x, **arguments), expected.numpy(), rtol=1e-9, atol=1e-12)


def test_defaults_are_the_languages() -> None:
    defaults = {n: {p.name: p.default for p in OPERATORS[n].signature if not p.required} for n in OPERATORS}
    assert defaults["leaky_relu"] == {"alpha": 0.01}
    assert defaults["hard_sigmoid"] == {"alpha": 1 / 6, "beta": 0.5}
    assert defaults["elu"] == {"alpha": 1.0}
    assert defaults["softmax"] == defaults["log_softmax"] == {"axis": -1}
    assert issubclass(OPERATORS["relu"], Primitive)
