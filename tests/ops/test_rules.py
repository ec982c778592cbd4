"""Every rule of every operator: shape rule against NumPy rule, ONNX form against NumPy rule, signature against call."""

from __future__ import annotations

import re
from dataclasses import fields

import numpy as np
import pytest

from netdsl.ir.opdef import Operator, Primitive
from netdsl.ops import OPERATORS, PRIMITIVES
from tests.ops.harness import Case, all_cases, call_names, check_case, graph_of


@pytest.mark.parametrize("name", all_cases())
def test_forms_agree(name: str) -> None:
    check_case(all_cases()[name])


def test_every_operator_has_a_case() -> None:
    """By name in a program, or as a node of its graph (`+` makes an `add`)."""
    words = {word for case in all_cases().values() for word in re.findall(r"\w+", case.source)}
    missing = set(OPERATORS) - words
    if missing:
        missing -= {node.op.name for case in all_cases().values() for node in graph_of(case).nodes}
    assert not missing


@pytest.mark.parametrize("name", OPERATORS)
def test_signature_is_what_call_takes(name: str) -> None:
    op: type[Operator] = OPERATORS[name]
    names = [p.name for p in op.signature]
    assert len(set(names)) == len(names)
    taken, others = call_names(op.call)
    if issubclass(op, Primitive) and vars(op).get("call") is None and op.call.__func__ is Primitive.call.__func__:  # type: ignore[attr-defined]  # a method
        assert {p.name for p in op.signature if not p.kind.is_tensor} == {f.name for f in fields(op)}
        return
    optional = {"label"}  # given by operators that call this one
    assert set(names) <= set(taken) or others
    assert set(taken) - optional <= set(names)


@pytest.mark.parametrize("name", {**OPERATORS, **PRIMITIVES})
def test_is_documented(name: str) -> None:
    op: type[Operator] = {**OPERATORS, **PRIMITIVES}[name]
    assert op.__doc__ and "Dataclass" not in op.__doc__ and not op.__doc__.startswith(f"{op.__name__}(")
    assert op.reference or issubclass(op, Primitive)


def test_order_of_parameters_lets_positions_be_given() -> None:
    """No required parameter behind one with a default."""
    for name, op in OPERATORS.items():
        required = [p.required for p in op.signature if not p.kind.variadic]
        assert required == sorted(required, reverse=True), name


BROKEN = {
    "evaluate": lambda self, x: np.maximum(x, 0.25),
    "lower": lambda self, cx, node, x: cx.emit("Abs", x),
    "infer": lambda self, x: x.with_shape(x.shape[::-1]),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_a_wrong_rule_is_seen(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PRIMITIVES["relu"], rule, BROKEN[rule])
    with pytest.raises(AssertionError):
        check_case(Case("wrong", "input x: float32[N, 3]  output y = relu(x)", {"x": (2, 3)}))
