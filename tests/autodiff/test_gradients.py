"""Every operator's gradient, on every case that compares its ONNX form with its NumPy rule."""

from __future__ import annotations

import re
import zlib

import pytest

from netdsl.ir.opdef import Primitive
from netdsl.ops import PRIMITIVES
from tests.autodiff.checking import check_gradient, check_gradient_form
from tests.ops.harness import all_cases, graph_of, inputs_of

FLOAT = re.compile(r"\b(float16|bfloat16|float32|float64)\b")

#: No gradient passes through these: their results are integers or booleans, or they have no float operand.
WITHOUT_GRADIENT = {
    "after",
    "adaptive_avg_matrix",
    "argmax",
    "argmin",
    "avg_pool_matrix",
    "batch_norm_gradient",
    "causal_mask",
    "constant_tensor",
    "dimension",
    "equal",
    "greater",
    "greater_equal",
    "gru_steps_gradient",
    "inside",
    "less",
    "less_equal",
    "lstm_steps_gradient",
    "max_pool_gradient",
    "non_max_suppression",
    "not_equal",
    "one_hot",
    "onnx",
    "resize_matrix",
    "rnn_steps_gradient",
    "roi_matrix",
    "roi_positions",
    "uniform_random",
}


def differentiable_cases() -> list[str]:
    """The cases with a float operand; of those that differ in the float type alone, one."""
    programs: dict[str, str] = {}
    for name, case in all_cases().items():
        programs.setdefault(FLOAT.sub("float64", case.source), name)
    return [name for program, name in programs.items() if "float64" in program]


@pytest.mark.parametrize("name", differentiable_cases())
def test_gradient_by_finite_differences(name: str) -> None:
    case = all_cases()[name]
    check_gradient(graph_of(case), case.inputs)


def float_cases() -> list[str]:
    return [name for name, case in all_cases().items() if FLOAT.search(case.source)]


@pytest.mark.parametrize("name", float_cases())
def test_gradient_by_onnx_runtime(name: str) -> None:
    """At one opset each, the first to the last in turn over the cases."""
    case = all_cases()[name]
    graph = graph_of(case)
    opset = case.opsets[zlib.crc32(name.encode()) % len(case.opsets)]
    least = 2e-3 if "float16" in case.source else 1e-5  # the operator may be exact in 16 bits, its gradient adds
    check_gradient_form(graph, inputs_of(case, graph), opset=opset, rtol=max(10 * case.rtol, least), atol=case.atol)


@pytest.mark.parametrize("name", sorted(PRIMITIVES))
def test_operator_says_whether_it_is_differentiable(name: str) -> None:
    op = PRIMITIVES[name]
    assert op.differentiable is (name not in WITHOUT_GRADIENT)
    assert not op.differentiable or op.gradient is not Primitive.gradient, f"{name} has no gradient rule"
