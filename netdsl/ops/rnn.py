"""The plain recurrent layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.arguments import Param, choice
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Cost, Emitter, GradientContext, Primitive
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.recurrence import Steps, before, scan, sequence_of, tanh_slope, weight_gradient
from netdsl.ops.recurrent import Recurrent, signature

FUNCTIONS = {"tanh": "Tanh", "relu": "Relu"}  #: ONNX's names


@dataclass(frozen=True)
class Rnn(Recurrent):
    """A plain recurrent layer (Elman's) over a sequence `[batch, time, features]`: `h = tanh(W x + b + V h + d)`.

    Returns the sequence of `h`, `[batch, time, directions * units]`, and the last one, `[layers * directions, batch,
    units]`. Parameters are PyTorch's: `weight_ih_l0` `[units, features]`, `weight_hh_l0` `[units, units]`,
    `bias_ih_l0`, `bias_hh_l0` `[units]`, `_l1` and so on for more layers, `_reverse` behind for the second direction.
    """

    nonlinearity: str = "tanh"

    name: ClassVar[str] = "rnn"
    reference: ClassVar[str] = "Elman 1990; ONNX RNN"
    signature: ClassVar[tuple[Param, ...]] = signature(Param("nonlinearity", choice(*FUNCTIONS), "tanh"))
    gates: ClassVar[int] = 1
    flops_per_unit: ClassVar[int] = 1

    def steps(self) -> Primitive:
        return RnnSteps(self.reverse, self.nonlinearity)

    @runs_in_float32(DType.float16, DType.bfloat16, DType.float64)
    def lower(self, cx: Emitter, node: Node, *operands: str) -> tuple[str, ...]:
        return self.onnx_layer(cx, node, "RNN", (0,), operands, activations=[FUNCTIONS[self.nonlinearity]])


@dataclass(frozen=True)
class RnnSteps(Steps):
    """The steps of `rnn` over a projected sequence `[time, batch, units]`: every `h`."""

    nonlinearity: str = "tanh"

    name: ClassVar[str] = "rnn_steps"
    reference: ClassVar[str] = "ONNX Scan"

    def infer(self, x: TensorType, weight: TensorType, h: TensorType) -> TensorType:
        return sequence_of(weight, x, h)

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        return Cost(macs=inputs[0].size * inputs[1].shape[1], other=2 * inputs[0].size)

    def evaluate(self, x: NDArrayAny, weight: NDArrayAny, h: NDArrayAny) -> Any:
        projected, matrix, state = wide(x), wide(weight).T, wide(h)
        made = np.empty(x.shape, projected.dtype)
        for t in self.positions(len(projected)):
            terms = projected[t] + state @ matrix
            made[t] = state = np.tanh(terms) if self.nonlinearity == "tanh" else np.maximum(terms, 0)
        return like(made, x)

    @runs_in_float32(DType.float16, DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, x: str, weight: str, h: str) -> str:
        def step(h: str, x: str) -> Sequence[str]:
            h = cx.emit(FUNCTIONS[self.nonlinearity], cx.emit("Gemm", h, weight, x, transB=1))
            return h, h

        return scan(cx, step, (h,), (x,), 1, self.reverse)[1][0]

    def gradient(self, cx: GradientContext, node: Node, dh: Value) -> Sequence[Value | None]:
        _, weight, h = node.inputs
        states = node.output
        slopes = tanh_slope(cx, states) if self.nonlinearity == "tanh" else g.mask(cx, ">", states, 0)
        terms, first = cx.emit_all(RnnStepsGradient(self.reverse), weight, slopes, dh)
        dw = weight_gradient(cx, terms, before(cx, states, h, self.reverse)) if cx.wants(weight) else None
        return terms, dw, first


@dataclass(frozen=True)
class RnnStepsGradient(Steps):
    """The gradient of `rnn_steps` from the last step to the first: for what is inside of the function `[time, batch,
    units]`, and for the state that it began with. `slopes` are the function's; `dh` comes from outside."""

    name: ClassVar[str] = "rnn_steps_gradient"
    reference: ClassVar[str] = "ONNX Scan"
    differentiable: ClassVar[bool] = False

    def infer(self, weight: TensorType, slopes: TensorType, dh: TensorType) -> Any:
        sequence = sequence_of(weight, slopes, dh)
        return sequence, sequence.with_shape(sequence.shape[1:])

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        return Cost(macs=inputs[1].size * inputs[0].shape[1], other=2 * inputs[1].size)

    def evaluate(self, weight: NDArrayAny, slopes: NDArrayAny, dh: NDArrayAny) -> Any:
        terms = np.empty(slopes.shape, wide(slopes).dtype)
        state = np.zeros(dh.shape[1:], terms.dtype)
        for t in reversed(self.positions(len(slopes))):
            terms[t] = (state + wide(dh)[t]) * wide(slopes)[t]
            state = terms[t] @ wide(weight)
        return like(terms, slopes), like(state, slopes)

    @runs_in_float32(DType.float16, DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, weight: str, *sequences: str) -> tuple[str, ...]:
        start = cx.emit("Expand", cx.scalar(0.0, node.inputs[0].dtype), cx.shape(node.inputs[1].shape[1:]))

        def step(h: str, slopes: str, dh: str) -> Sequence[str]:
            terms = cx.emit("Mul", cx.emit("Add", h, dh), slopes)
            return cx.emit("MatMul", terms, weight), terms

        (first,), (terms,) = scan(cx, step, (start,), sequences, 1, not self.reverse)
        return terms, first
