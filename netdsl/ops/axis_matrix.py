"""Linear operators on one axis as matrices: what the gradients of resize and average pools multiply with.

An operator that works axis by axis is a matrix `[out, in]` for each. Where the axis is symbolic, the matrix is computed
when the model runs: the operator itself applied to the unit matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.dims import Dim, product
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Cost, Emitter, GradientContext, Primitive
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import dense
from netdsl.ops import gradient_tools as g
from netdsl.ops.shape import emit_reshape


@dataclass(frozen=True)
class AxisMatrix(Primitive):
    """The matrix `[out, in]` of an operator on an axis of size `before`. A subclass gives the operator."""

    before: Dim
    dtype: DType

    family: ClassVar[str] = "internal"
    differentiable: ClassVar[bool] = False

    @property
    def operator(self) -> Primitive:
        """The linear operator on `[N, C, before]`."""
        raise TypeError(f"{self.name} has no operator")

    @property
    def _unit(self) -> TensorType:
        return TensorType(self.dtype, (self.before, 1, self.before))

    def infer(self) -> TensorType:
        result = self.operator.infer(self._unit)
        assert isinstance(result, TensorType)
        return TensorType(self.dtype, (result.shape[2], self.before))

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        """Nothing: a constant, or as small as one."""
        return Cost()

    def evaluate(self) -> NDArrayAny:
        size: Any = self.before
        columns = self.operator.evaluate(np.eye(size).astype(self.dtype.numpy).reshape(size, 1, size))
        assert isinstance(columns, np.ndarray)
        return np.ascontiguousarray(columns[:, 0].T)

    def lower(self, cx: Emitter, node: Node) -> str:
        if isinstance(self.before, int):
            return cx.array(self.evaluate())
        square = (self.before, self.before)
        unit = cx.emit("EyeLike", cx.emit("Expand", cx.scalar(0, self.dtype), cx.shape(square)))
        operator, result = self.operator, self.operator.infer(self._unit)
        assert isinstance(result, TensorType)
        inner = Node(operator, (Value("unit", self._unit),), (Value("columns", result),), node.path, node.place)
        columns = operator.lower(cx, inner, emit_reshape(cx, unit, square, self._unit.shape))
        assert isinstance(columns, str)
        flat = emit_reshape(cx, columns, result.shape, (result.shape[0], result.shape[2]))
        return cx.emit("Transpose", flat, perm=[1, 0])


def transposed_along(cx: GradientContext, dy: Value, axis: int, matrix: Value) -> Value:
    """`dy` multiplied along an axis by a matrix `[out, in]` from the left: the gradient for what the matrix was
    applied to."""
    if axis == dy.rank - 1:
        return cx.emit(dense.MatMul(), dy, matrix)
    after = (*dy.shape[:axis], matrix.shape[1], *dy.shape[axis + 1 :])
    rows = g.reshape(cx, dy, (*dy.shape[: axis + 1], product(dy.shape[axis + 1 :])))
    return g.reshape(cx, cx.emit(dense.MatMul(), g.transpose(cx, matrix, (1, 0)), rows), after)
