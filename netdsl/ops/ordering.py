"""A dependency in time alone: what keeps a runtime from computing something too early."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from netdsl.ir.graph import Node
from netdsl.ir.opdef import Cost, Emitter, Primitive
from netdsl.ir.types import DType, NDArrayAny, TensorType


@dataclass(frozen=True)
class After(Primitive):
    """`x`, not before the float tensor `signal` is known.

    Whatever is computed from the result runs after `signal`, and is no common subexpression of what is computed from
    `x` itself. The ONNX form asks whether the signal's first element is both below and above 0, which no optimiser
    simplifies and which is false for NaN too. On a CPU that answer, 0, is added to the target shape of a Reshape, which
    makes a view; on a GPU, where shapes would have to come back to the host, it selects between `x` and `x`.
    """

    name: ClassVar[str] = "after"
    family: ClassVar[str] = "internal"
    reference: ClassVar[str] = "Chen et al. 2016 (arXiv:1604.06174)"
    foldable: ClassVar[bool] = False
    differentiable: ClassVar[bool] = False

    def infer(self, x: TensorType, signal: TensorType) -> TensorType:
        return x

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        return Cost()

    def evaluate(self, x: NDArrayAny, signal: NDArrayAny) -> NDArrayAny:
        return x

    def lower(self, cx: Emitter, node: Node, x: str, signal: str) -> str:
        type = node.inputs[0].type
        first = cx.emit("Gather", cx.emit("Reshape", signal, cx.ints([-1])), cx.scalar(0, DType.int64))
        if node.inputs[1].dtype is not DType.float32:
            first = cx.emit("Cast", first, to=cx.onnx_type(DType.float32))
        zero = cx.scalar(0, DType.float32)
        never = cx.emit("And", cx.emit("Less", first, zero), cx.emit("Greater", first, zero))
        if cx.target.device == "cuda":
            return cx.emit("Where", never, x, x)
        nothing = cx.emit("Cast", never, to=cx.onnx_type(DType.int64))
        return cx.emit("Reshape", x, cx.emit("Add", cx.shape(type.shape), nothing))
