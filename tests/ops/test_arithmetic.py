"""Arithmetic and comparisons of tensors, numbers and dimensions."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from netdsl.ir.dims import symbol
from netdsl.ir.opdef import OpError, ShapeError
from netdsl.ir.types import DType
from netdsl.ops import OPERATORS
from netdsl.ops.arithmetic import INFIX, binary, negate
from netdsl.ops.constant import Constant, DimensionValue
from tests.ops.building import Bench, result, tensor

PYTHON: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
NUMBERS = [t for t in DType if t is not DType.bool]


def values(dtype: DType, low: int, *shape: int) -> Any:
    drawn = np.random.default_rng(3).uniform(max(low, 0) if dtype is DType.uint8 else low, 9, shape)
    return drawn.astype(dtype.numpy)


@pytest.mark.parametrize("symbol_text", INFIX)
@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_infix_means_pythons(symbol_text: str, dtype: DType) -> None:
    if symbol_text == "/" and dtype.is_integer:
        with pytest.raises(ShapeError, match="div: / needs float tensors"):
            INFIX[symbol_text]().infer(tensor(str(dtype), 2), tensor(str(dtype), 2))
        return
    left, right = values(dtype, 1 if symbol_text == "**" else -9, 2, 1, 5), values(dtype, 1, 3, 1)
    right = np.minimum(right, 3).astype(dtype.numpy) if symbol_text == "**" else right
    if symbol_text in ("//", "%") and dtype is not DType.uint8:
        right[1] = -right[1]
    bench = Bench(tensor(str(dtype), 2, 1, 5), tensor(str(dtype), 3, 1))
    y = binary(bench.layer, symbol_text, *bench.inputs)
    found = bench.run(dict(zip(bench.inputs, (left, right), strict=True)))[y]
    wide = np.float64 if dtype.is_float else np.int64
    expected = np.asarray(PYTHON[symbol_text](left.astype(wide), right.astype(wide)))
    if y.dtype is DType.bool or dtype.is_integer:
        np.testing.assert_array_equal(found, expected.astype(y.dtype.numpy))
    else:
        tolerance = 2.0 ** {"bfloat16": -7, "float16": -9, "float32": -20, "float64": -48}[str(dtype)]
        np.testing.assert_allclose(found.astype(np.float64), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("number", [2, -3, 0.5])
def test_a_number_takes_the_tensors_type_on_either_side(number: float) -> None:
    bench = Bench(tensor("float16", 2))
    for y in (binary(bench.layer, "-", bench.inputs[0], number), binary(bench.layer, "-", number, bench.inputs[0])):
        assert y.type == tensor("float16", 2)
    constants = [n.op for n in bench.builder.nodes if isinstance(n.op, Constant)]
    assert [c.value.data.dtype for c in constants] == [np.float16] * 2
    x = np.asarray([1, 7], np.float16)
    found = bench.run({bench.inputs[0]: x})
    np.testing.assert_array_equal(found[y], number - x)


def test_a_dimension_is_its_run_time_value() -> None:
    bench = Bench(tensor("float32", "N", 3))
    y = binary(bench.layer, "/", bench.inputs[0], symbol("N"))
    assert any(isinstance(n.op, DimensionValue) for n in bench.builder.nodes)
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.testing.assert_array_equal(bench.run({bench.inputs[0]: x}, {"N": 4})[y], x / 4)


@pytest.mark.parametrize(
    ("dtype", "text", "number", "words"),
    [
        ("int64", "+", 0.5, "add: the float 0.5 does not mix with int64"),
        ("uint8", "*", 300, "mul: 300 is no value of uint8, which holds 0 to 255"),
        ("uint8", "-", -1, "sub: -1 is no value of uint8"),
        ("float16", "+", 1e6, "add: the float 1000000.0 is beyond the largest float16"),
        ("float32", "+", 10**400, "add: a very large integer is beyond the largest float32"),
        ("float32", "+", True, "add: true does not mix with float32"),
        ("bool", "==", 1, "equal: 1 does not mix with bool"),
        ("int32", "/", 2, "div: / needs float tensors, found int32[3]"),
        ("int32", "//", 0, "floor_div: division of int32[3] by zero"),
        ("int32", "%", 0, "mod: division of int32[3] by zero"),
        ("int32", "**", -1, "pow: int32[3] to the negative power -1 is no integer"),
        ("bool", "+", True, "add needs a tensor of numbers, found bool[3]"),
        ("bool", "<", True, "less: bool values have no order"),
    ],
)
def test_numbers_that_do_not_fit(dtype: str, text: str, number: Any, words: str) -> None:
    bench = Bench(tensor(dtype, 3))
    with pytest.raises(OpError) as caught:
        binary(bench.layer, text, bench.inputs[0], number)
    assert words in caught.value.message
    assert caught.value.help or "zero" in words or "largest" in words


def test_types_do_not_mix() -> None:
    bench = Bench(tensor("float32", 3), tensor("int64", 3))
    with pytest.raises(ShapeError, match="add: element types float32 and int64 do not mix"):
        binary(bench.layer, "+", *bench.inputs)


def test_negate() -> None:
    bench = Bench(tensor("int32", 2))
    y = negate(bench.layer, bench.inputs[0])
    np.testing.assert_array_equal(bench.run({bench.inputs[0]: np.asarray([1, -2], np.int32)})[y], [-1, 2])
    truths = Bench(tensor("bool", 2))
    with pytest.raises(ShapeError, match="neg needs a tensor of numbers, found bool"):
        negate(truths.layer, truths.inputs[0])


def test_floor_division_is_exact() -> None:
    left, right = np.asarray([1.0, 7, -7, 1e6, 3], np.float32), np.asarray([0.1, np.inf, np.inf, 0.1, 0], np.float32)
    quotient, rest = result("floor_div", left, right), result("mod", left, right)
    np.testing.assert_array_equal(quotient, [9, 0, -1, np.float32(9999999), np.inf])
    np.testing.assert_allclose(quotient[[0, 3]] * right[[0, 3]] + rest[[0, 3]], left[[0, 3]], rtol=1e-6)


@pytest.mark.parametrize("name", ["add", "multiply", "maximum", "minimum"])
def test_joins_chain_from_left_to_right(name: str) -> None:
    a, b = np.asarray([1.0, 5], np.float32), np.asarray([[3.0], [4]], np.float32)
    python = {"add": np.add, "multiply": np.multiply, "maximum": np.maximum, "minimum": np.minimum}[name]
    np.testing.assert_array_equal(result(name, 2, a, b), python(python(np.float32(2), a), b))
    np.testing.assert_array_equal(result(name, a), a)


def test_a_list_of_tensors_joins() -> None:
    bench = Bench(tensor("float32", 2), tensor("float32", 2))
    add = OPERATORS["add"]
    y = add.call(bench.layer, inputs=add.signature[0].kind.convert(bench.inputs))
    z = binary(bench.layer, "+", *bench.inputs)
    assert [n.op for n in bench.builder.nodes] == [bench.builder.nodes[0].op] * 2
    assert y.type == z.type  # type: ignore[union-attr]


def test_joins_need_a_tensor() -> None:
    with pytest.raises(OpError, match="add needs at least one tensor, found 1, 2"):
        Bench().call("add", 1, 2)


def test_costs() -> None:
    bench = Bench(tensor("float32", "N", 1), tensor("float32", 5))
    counts = {}
    for text in INFIX:
        binary(bench.layer, text, *bench.inputs)
        node = bench.builder.nodes[-1]
        counts[text] = node.op.cost([v.type for v in node.inputs], [v.type for v in node.outputs]).flops
    elements = 5 * symbol("N")
    assert counts["+"] == counts["*"] == counts["**"] == elements
    assert (counts["//"], counts["%"], counts["=="]) == (2 * elements, 4 * elements, 0)
