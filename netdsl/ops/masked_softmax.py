"""Softmax over the positions that a mask allows: what attention is made of where ONNX has no operator for it, and what
it is trained through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from netdsl.ir.dims import Dim
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Cost, Emitter, GradientContext, Primitive, ShapeError, require_float
from netdsl.ir.reach import WHOLE, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops.broadcast import broadcast
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.reduction import onnx_reduce
from netdsl.ops.smooth import Softmax

#: how far below a row's largest score its others are cut off: exp(-80) is nothing beside 1, and no denormal number,
#: which processors are slow at
_DEPTH = 80.0
#: what stands for the largest score of a row in which nothing is allowed
_LOWEST = -3e38


@dataclass(frozen=True)
class CausalMask(Primitive):
    """True where column `j` is not after row `i`: the positions that row `i` of a sequence may attend to."""

    rows: Dim
    columns: Dim

    name: ClassVar[str] = "causal_mask"
    family: ClassVar[str] = "internal"
    reference: ClassVar[str] = "ONNX Range, GreaterOrEqual"
    foldable: ClassVar[bool] = False  # a few nodes are smaller than a matrix in the file
    differentiable: ClassVar[bool] = False

    def infer(self) -> TensorType:
        return TensorType(DType.bool, (self.rows, self.columns))

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE

    def evaluate(self) -> NDArrayAny:
        assert isinstance(self.rows, int) and isinstance(self.columns, int)
        return np.tri(self.rows, self.columns, dtype=np.bool_)

    def lower(self, cx: Emitter, node: Node) -> str:
        return emit_causal_mask(cx, self.rows, self.columns)


def emit_causal_mask(cx: Emitter, rows: Dim, columns: Dim) -> str:
    """The ONNX form of `CausalMask`."""
    down, along = (_emit_range(cx, size) for size in (rows, columns))
    return cx.emit("GreaterOrEqual", cx.emit("Unsqueeze", down, cx.ints([1])), along)


def _emit_range(cx: Emitter, size: Dim) -> str:
    end = cx.scalar(size, DType.int64) if isinstance(size, int) else cx.emit("Squeeze", cx.shape([size]))
    return cx.emit("Range", cx.scalar(0, DType.int64), end, cx.scalar(1, DType.int64))


@dataclass(frozen=True)
class MaskedSoftmax(Primitive):
    """`softmax(scores)` along the last axis over the positions where `allowed` (bool, broadcast to the scores) is true,
    0 at all others; a row in which nothing is allowed is 0 throughout."""

    name: ClassVar[str] = "masked_softmax"
    family: ClassVar[str] = "internal"
    reference: ClassVar[str] = "ONNX Softmax"

    def infer(self, scores: TensorType, allowed: TensorType) -> TensorType:
        require_float(self.name, scores)
        if allowed.dtype is not DType.bool or broadcast(self.name, scores, allowed) != scores.shape:
            raise ShapeError(f"{self.name}: {allowed} is no mask of {scores}")
        return scores

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        return Cost(other=Softmax.flops_per_element * outputs[0].size)

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE

    def evaluate(self, scores: NDArrayAny, allowed: NDArrayAny) -> NDArrayAny:
        return like(masked_softmax(wide(scores), allowed), scores)

    @runs_in_float32(DType.float16, DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, scores: str, allowed: str) -> str:
        return emit_masked_softmax(cx, node.inputs[0].dtype, scores, allowed)

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        scores = node.inputs[0]
        return Softmax(scores.rank - 1).backward(cx, scores, node.output, dy), None


def masked_softmax(scores: NDArrayAny, allowed: NDArrayAny | None) -> NDArrayAny:
    """The NumPy rule, for float32 and float64. None: everything is allowed; scores of -inf never are."""
    numbers = scores if allowed is None else np.where(allowed, scores, -np.inf)
    top = np.max(numbers, axis=-1, keepdims=True)
    powers = np.exp(numbers - np.where(np.isneginf(top), 0, top))
    total = np.sum(powers, axis=-1, keepdims=True)
    return np.asarray(powers / np.where(total == 0, 1, total))


def emit_masked_softmax(cx: Emitter, dtype: DType, scores: str, allowed: str) -> str:
    """The ONNX form of `MaskedSoftmax`, in float32 or float64.

    Plain Softmax of scores of -inf takes three times as long, since ONNX Runtime computes a denormal number for each;
    so they are raised to a little above that, and set to 0 behind it.
    """
    barred = cx.emit("Where", allowed, cx.scalar(0.0, dtype), cx.scalar(-np.inf, dtype))
    open_scores = cx.emit("Add", scores, barred)
    top = cx.emit("Max", onnx_reduce(cx, "ReduceMax", open_scores, [-1], True), cx.scalar(_LOWEST, dtype))
    floor = cx.emit("Sub", top, cx.scalar(_DEPTH, dtype))
    shares = cx.emit("Softmax", cx.emit("Max", open_scores, floor), axis=-1)
    return cx.emit("Mul", shares, cx.emit("Cast", allowed, to=cx.onnx_type(dtype)))
