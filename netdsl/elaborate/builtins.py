"""What every file knows without defining it: operators, those of ONNX, plain functions, element types, initializers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from netdsl.elaborate.plain import FUNCTIONS
from netdsl.elaborate.values import InitializerFunction, OnnxOperators, OperatorValue
from netdsl.ir.initializer import Initializer
from netdsl.ir.types import DType
from netdsl.ops import OPERATORS

OPERATOR_VALUES: Mapping[str, OperatorValue] = MappingProxyType(
    {name: OperatorValue(op) for name, op in OPERATORS.items()}
)

#: By name. A plain function that shares its name with an operator hands tensors over to it.
BUILTINS: Mapping[str, Any] = MappingProxyType(
    {
        **OPERATOR_VALUES,
        **{name: InitializerFunction(name) for name in Initializer.SIGNATURES},
        **FUNCTIONS,
        **{dtype.value: dtype for dtype in DType},
        "onnx": OnnxOperators(),
    }
)
