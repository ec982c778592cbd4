"""The negative log-likelihood of classes, as one primitive: its gradient is probability minus one, with no sum over the
classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Cost, Emitter, GradientContext, Primitive, ShapeError, require_float
from netdsl.ir.reach import WHOLE, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops.along import AddAlong
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.reduction import onnx_reduce
from netdsl.ops.smooth import LogSoftmax
from netdsl.ops.unary import Exp


@dataclass(frozen=True)
class SoftmaxNll(Primitive):
    """`-log_softmax(logits)[…, ids, …]` along an axis, and the log-probabilities themselves. `ids` (int32 or int64,
    each at least 0 and below the number of classes) has the shape of the logits without that axis."""

    axis: int  #: counted from the start

    name: ClassVar[str] = "softmax_nll"
    family: ClassVar[str] = "internal"
    reference: ClassVar[str] = "ONNX LogSoftmax, GatherElements"

    def infer(self, logits: TensorType, ids: TensorType) -> tuple[TensorType, TensorType]:
        require_float(self.name, logits)
        shape = (*logits.shape[: self.axis], *logits.shape[self.axis + 1 :])
        if ids.dtype not in (DType.int32, DType.int64) or ids.rank != len(shape):
            raise ShapeError(f"{self.name}: {ids} are no classes of axis {self.axis} of {logits}")
        return logits.with_shape(ids.shape), logits

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        return Cost(other=LogSoftmax.flops_per_element * inputs[0].size)

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE

    def evaluate(self, logits: NDArrayAny, ids: NDArrayAny) -> tuple[NDArrayAny, NDArrayAny]:
        logs = LogSoftmax(self.axis).function(wide(logits))
        positions = np.expand_dims(ids.astype(np.int64), self.axis)
        picked = np.squeeze(np.take_along_axis(logs, positions, self.axis), self.axis)
        return like(-picked, logits), like(logs, logits)

    @runs_in_float32(DType.bfloat16, DType.float16)
    def lower(self, cx: Emitter, node: Node, logits: str, ids: str) -> tuple[str, str]:
        last = self.axis == node.inputs[0].rank - 1
        logs = cx.emit("LogSoftmax", logits, axis=self.axis) if last else self._inner(cx, logits)
        positions = cx.emit("Unsqueeze", ids, cx.ints([self.axis]))
        picked = cx.emit("GatherElements", logs, positions, axis=self.axis)
        return cx.emit("Neg", cx.emit("Squeeze", picked, cx.ints([self.axis]))), logs

    def _inner(self, cx: Emitter, logits: str) -> str:
        """A log-softmax along an inner axis: ONNX Runtime's own transposes there and back, in 11 times as long."""
        shifted = cx.emit("Sub", logits, onnx_reduce(cx, "ReduceMax", logits, [self.axis], True))
        powers = onnx_reduce(cx, "ReduceSum", cx.emit("Exp", shifted), [self.axis], True)
        return cx.emit("Sub", shifted, cx.emit("Log", powers))

    def gradient(
        self, cx: GradientContext, node: Node, losses: Value | None, logs: Value | None
    ) -> Sequence[Value | None]:
        ids, y = node.inputs[1], node.outputs[1]
        found = None
        if losses is not None:
            positions = g.unsqueeze(cx, ids, [self.axis])
            less = g.expand_to(cx, cx.constant(-1, y.dtype), positions.shape)
            slope = cx.emit(AddAlong(self.axis), cx.emit(Exp(), y), positions, less)
            found = g.mul(cx, slope, g.unsqueeze(cx, losses, [self.axis]))
        if logs is not None:
            other = LogSoftmax(self.axis).backward(cx, node.inputs[0], y, logs)
            found = other if found is None else g.add(cx, found, other)
        return found, None
