"""The plain recurrent layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from netdsl.ir.arguments import Param, choice
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Cost, Emitter, GradientContext, Primitive
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.recurrence import Steps, arrived, sequence_of, weight_gradient
from netdsl.ops.recurrent import Recurrent, signature
from netdsl.ops.scan import scan

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
    """The steps of `rnn` over a projected sequence `[time, batch, units]`.

    Makes every `h`, the last one, and for the gradient, for all positions, the `h` before and the function's slope.
    """

    nonlinearity: str = "tanh"

    name: ClassVar[str] = "rnn_steps"
    reference: ClassVar[str] = "ONNX Scan"

    def infer(self, x: TensorType, weight: TensorType, h: TensorType) -> tuple[TensorType, ...]:
        sequence = sequence_of(self.name, weight, x, h)
        return sequence, h, sequence, sequence

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        """A sum and the function, and 2 per unit for the slopes."""
        return Cost(macs=inputs[0].size * inputs[1].shape[1], other=4 * inputs[0].size)

    def evaluate(self, x: NDArrayAny, weight: NDArrayAny, h: NDArrayAny) -> tuple[NDArrayAny, ...]:
        terms, matrix, state = wide(x), wide(weight).T, wide(h)
        made = [np.empty(x.shape, terms.dtype) for _ in range(3)]
        for t in self.positions(len(terms)):
            last, total = state, terms[t] + state @ matrix
            state = np.tanh(total) if self.nonlinearity == "tanh" else np.maximum(total, 0)
            slope = 1 - state * state if self.nonlinearity == "tanh" else np.sign(state)
            for sequence, result in zip(made, (state, last, slope), strict=True):
                sequence[t] = result
        return tuple(like(array, x) for array in (made[0], state, *made[1:]))

    @runs_in_float32(DType.float16, DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, x: str, weight: str, h: str) -> tuple[str, ...]:
        one = cx.scalar(1.0, node.inputs[0].dtype)

        def step(last: str, x: str) -> Sequence[str]:
            h = cx.emit(FUNCTIONS[self.nonlinearity], cx.emit("Gemm", last, weight, x, transB=1))
            bent = self.nonlinearity == "tanh"
            return h, h, last, cx.emit("Sub", one, cx.emit("Mul", h, h)) if bent else cx.emit("Sign", h)

        states, (sequence, *kept) = scan(cx, step, (h,), (x,), 3, self.reverse)
        return sequence, *states, *kept

    def gradient(self, cx: GradientContext, node: Node, *grads: Value | None) -> Sequence[Value | None]:
        weight = node.inputs[1]
        before, slopes = node.outputs[2:]
        starts = arrived(cx, node.outputs[:2], grads[:2])
        terms, h = cx.emit_all(RnnStepsGradient(self.reverse), weight, slopes, *starts)
        return terms, weight_gradient(cx, terms, before) if cx.wants(weight) else None, h


@dataclass(frozen=True)
class RnnStepsGradient(Steps):
    """The gradient of `rnn_steps` from the last step to the first: for what is inside of the function `[time, batch,
    units]`, and for the `h` that it began with. Reads the slopes of `rnn_steps`, and the gradients for every `h` and
    for the last one."""

    name: ClassVar[str] = "rnn_steps_gradient"
    reference: ClassVar[str] = "ONNX Scan"
    differentiable: ClassVar[bool] = False

    def infer(self, weight: TensorType, slopes: TensorType, dh: TensorType, h: TensorType) -> tuple[TensorType, ...]:
        return sequence_of(self.name, weight, slopes, h), h

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        return Cost(macs=inputs[1].size * inputs[0].shape[1], other=2 * inputs[1].size)

    def evaluate(self, weight: NDArrayAny, slopes: NDArrayAny, dh: NDArrayAny, h: NDArrayAny) -> tuple[NDArrayAny, ...]:
        terms = np.empty(slopes.shape, wide(slopes).dtype)
        state = wide(h)
        for t in reversed(self.positions(len(slopes))):
            terms[t] = (state + wide(dh)[t]) * wide(slopes)[t]
            state = terms[t] @ wide(weight)
        return like(terms, slopes), like(state, slopes)

    @runs_in_float32(DType.float16, DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, weight: str, *operands: str) -> tuple[str, ...]:
        def step(h: str, slopes: str, dh: str) -> Sequence[str]:
            terms = cx.emit("Mul", cx.emit("Add", h, dh), slopes)
            return cx.emit("MatMul", terms, weight), terms

        (first,), (terms,) = scan(cx, step, operands[2:], operands[:2], 1, not self.reverse)
        return terms, first
