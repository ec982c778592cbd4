"""Every operator's gradient, on every case that compares its ONNX form with its NumPy rule."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from netdsl.elaborate import elaborate
from netdsl.ir.opdef import Primitive
from netdsl.ops import PRIMITIVES
from netdsl.source import SourceFile
from tests.autodiff.checking import check_gradient
from tests.ops.harness import Case

CASES = Path(__file__).parents[1] / "ops" / "cases"
FLOAT = re.compile(r"\b(float16|bfloat16|float32|float64)\b")

#: No gradient passes through these: their results are integers or booleans, or they have no float operand.
WITHOUT_GRADIENT = {
    "argmax",
    "argmin",
    "constant_tensor",
    "dimension",
    "equal",
    "greater",
    "greater_equal",
    "less",
    "less_equal",
    "not_equal",
}


def distinct_cases() -> Iterator[Case]:
    """The cases with a float operand; those that differ in the float type alone are one case here."""
    seen = set()
    for path in sorted(CASES.glob("*.py")):
        if path.stem == "__init__":
            continue
        for case in importlib.import_module(f"tests.ops.cases.{path.stem}").CASES:
            program = FLOAT.sub("float64", case.source)
            if "float64" in program and program not in seen:
                seen.add(program)
                yield pytest.param(case, id=f"{path.stem}-{case.name}")  # type: ignore[misc]


@pytest.mark.parametrize("case", distinct_cases())
def test_gradient_by_finite_differences(case: Case) -> None:
    program = SourceFile("case.net", f"network T {{ {case.source} }}")
    check_gradient(elaborate(program).graph, case.inputs)


@pytest.mark.parametrize("name", sorted(PRIMITIVES))
def test_operator_says_whether_it_is_differentiable(name: str) -> None:
    op = PRIMITIVES[name]
    assert op.differentiable is (name not in WITHOUT_GRADIENT)
    assert op.differentiable is (op.gradient is not Primitive.gradient), f"{name} has no gradient rule"
