"""Matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from netdsl.ir.arguments import BOOL, INITIALIZERS, POSITIVE, TENSOR, Param
from netdsl.ir.dims import decide, product, to_text
from netdsl.ir.graph import Node, Value
from netdsl.ir.initializer import XAVIER_UNIFORM, ZEROS, Initializer
from netdsl.ir.opdef import (
    Cost,
    Emitter,
    GradientContext,
    LayerContext,
    Primitive,
    ShapeError,
    require_float,
    require_rank,
    same_dtype,
)
from netdsl.ir.reach import WHOLE, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops.broadcast import broadcast
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.shape import emit_reshape


@dataclass(frozen=True)
class Dense(Primitive):
    """Fully connected layer on the last axis: `x @ weight.T + bias`, `x` `[…, in]`, `weight` `[units, in]`,
    `bias` `[units]`.

    The output is `[…, units]`. Leading axes, if any, are batch axes; a `[in]` gives a `[units]`.
    """

    name: ClassVar[str] = "dense"
    family: ClassVar[str] = "dense"
    reference: ClassVar[str] = "ONNX Gemm, MatMul"
    signature: ClassVar[tuple[Param, ...]] = (
        Param("x", TENSOR),
        Param("units", POSITIVE, doc="number of output features"),
        Param("bias", BOOL, True),
        *INITIALIZERS,
    )

    @classmethod
    def call(
        cls,
        cx: LayerContext,
        x: Value,
        units: int,
        bias: bool,
        weight_init: Initializer | None,
        bias_init: Initializer | None,
    ) -> Value:
        require_float("dense", x.type)
        require_rank("dense", x.type, 1)
        features = x.shape[-1]
        if not isinstance(features, int):
            raise ShapeError(
                f"dense needs a known number of features (last axis), found {x.type}",
                help="pool the spatial axes first (global_avg_pool -> flatten), or give the input integer sizes",
            )
        weights = (weight_init or XAVIER_UNIFORM).with_fans(features, units)
        operands = [x, cx.parameter("weight", (units, features), weights, dtype=x.dtype)]
        if bias:
            biases = (bias_init or ZEROS).with_fans(features, units)
            operands.append(cx.parameter("bias", (units,), biases, dtype=x.dtype))
        return cx.emit(cls(), *operands)

    def infer(self, x: TensorType, weight: TensorType, bias: TensorType | None = None) -> TensorType:
        same_dtype("dense", x, weight, *([bias] if bias else []))
        require_rank("dense", x, 1)
        if weight.rank != 2 or x.shape[-1] != weight.shape[1]:
            raise ShapeError(f"dense: weight {weight} does not fit the last axis of {x}")
        if bias and bias.shape != weight.shape[:1]:
            raise ShapeError(f"dense: bias {bias} does not fit weight {weight}")
        return x.with_shape((*x.shape[:-1], weight.shape[0]))

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        return Cost(macs=outputs[0].size * inputs[1].shape[1], other=outputs[0].size if len(inputs) > 2 else 0)

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE

    def evaluate(self, x: NDArrayAny, weight: NDArrayAny, bias: NDArrayAny | None = None) -> NDArrayAny:
        y = np.matmul(wide(x), wide(weight).T)
        return like(y if bias is None else y + wide(bias), x)

    @runs_in_float32(DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, x: str, weight: str, bias: str = "") -> str:
        shape = node.inputs[0].shape
        if len(shape) == 2:
            return cx.emit("Gemm", x, weight, *([bias] if bias else []), transB=1)
        if bias and not cx.is_constant(weight):
            # Of a constant weight and known sizes ONNX Runtime makes this itself; in training it would add in a pass.
            rows = emit_reshape(cx, x, shape, (product(shape[:-1]), shape[-1]))
            return emit_reshape(cx, cx.emit("Gemm", rows, weight, bias, transB=1), (), node.output.shape)
        y = cx.emit("MatMul", x, cx.emit("Transpose", weight, perm=[1, 0]))
        return cx.emit("Add", y, bias) if bias else y

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        x, weight, *bias = node.inputs
        dx = cx.emit(MatMul(), dy, weight) if cx.wants(x) else None
        dw = cx.emit(MatMul(), g.transpose(cx, _rows(cx, dy), (1, 0)), _rows(cx, x)) if cx.wants(weight) else None
        sums = [g.total(cx, dy, range(dy.rank - 1)) if cx.wants(b) else None for b in bias]
        return dx, dw, *sums


def _rows(cx: GradientContext, x: Value) -> Value:
    """`x` as a matrix of the rows along its last axis."""
    return g.reshape(cx, x, (product(x.shape[:-1]), x.shape[-1]))


@dataclass(frozen=True)
class MatMul(Primitive):
    """Matrix product `a @ b` by NumPy's rules: `[…, m, k] @ […, k, n]` gives `[…, m, n]`, leading axes broadcast.

    A vector on the left is a row, one on the right a column; the axis that this adds is not in the result.
    """

    name: ClassVar[str] = "matmul"
    family: ClassVar[str] = "dense"
    reference: ClassVar[str] = "ONNX MatMul"
    signature: ClassVar[tuple[Param, ...]] = (Param("a", TENSOR), Param("b", TENSOR))

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        dtype = same_dtype("matmul", a, b)
        if dtype is DType.bool:
            raise ShapeError(f"matmul needs numbers, found {a}", help="convert them first: cast(x, float32)")
        require_rank("matmul", a, 1)
        require_rank("matmul", b, 1)
        inner = b.shape[-2] if b.rank > 1 else b.shape[0]
        if decide("==", a.shape[-1], inner) is not True:
            raise ShapeError(
                f"matmul: the last axis of {a} has {to_text(a.shape[-1])}, "
                f"the {'second last' if b.rank > 1 else 'only'} axis of {b} has {to_text(inner)}; they must be equal",
                help="transpose(x, axes) reorders axes",
            )
        batch = broadcast("matmul, on the batch axes", a.with_shape(a.shape[:-2]), b.with_shape(b.shape[:-2]))
        rows, columns = a.shape[-2:-1], b.shape[-1:] if b.rank > 1 else ()
        return TensorType(dtype, (*batch, *rows, *columns))

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        return Cost(macs=outputs[0].size * inputs[0].shape[-1])

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE

    def evaluate(self, a: NDArrayAny, b: NDArrayAny) -> NDArrayAny:
        return like(np.matmul(wide(a), wide(b)), a)

    @runs_in_float32(DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, a: str, b: str) -> str:
        dtype = node.inputs[0].dtype
        if dtype not in (DType.int8, DType.uint8):
            return cx.emit("MatMul", a, b)
        # ONNX multiplies 32- and 64-bit integers alone; the low bits of the product are those of the narrow type.
        wide_a, wide_b = (cx.emit("Cast", name, to=cx.onnx_type(DType.int32)) for name in (a, b))
        return cx.emit("Cast", cx.emit("MatMul", wide_a, wide_b), to=cx.onnx_type(dtype))

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        """`da = dy @ b.T` and `db = a.T @ dy`, vectors as matrices of one row or column."""
        a, b = node.inputs
        left = g.unsqueeze(cx, a, [0]) if a.rank == 1 else a
        right = g.unsqueeze(cx, b, [1]) if b.rank == 1 else b
        if b.rank == 1:
            dy = g.unsqueeze(cx, dy, [dy.rank])
        if a.rank == 1:
            dy = g.unsqueeze(cx, dy, [dy.rank - 1])
        da = db = None
        if cx.wants(a):
            found = cx.emit(MatMul(), dy, _turned(cx, right))
            da = g.reshape(cx, g.sum_to(cx, found, left.type), a.shape)
        if cx.wants(b):
            if right.rank == 2:  # one product over all rows of the batch
                found = cx.emit(MatMul(), _turned(cx, _rows(cx, left)), _rows(cx, dy))
            else:
                found = cx.emit(MatMul(), _turned(cx, left), dy)
            db = g.reshape(cx, g.sum_to(cx, found, right.type), b.shape)
        return da, db


def _turned(cx: GradientContext, x: Value) -> Value:
    return g.transpose(cx, x, [*range(x.rank - 2), x.rank - 1, x.rank - 2])
