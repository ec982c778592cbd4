"""Long short-term memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.arguments import Param
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Cost, Emitter, GradientContext, Primitive
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.recurrence import (
    Steps,
    before,
    cut,
    join,
    scan,
    sequence_of,
    sigmoid_slope,
    tanh_slope,
    units_of,
    weight_gradient,
    zeros,
)
from netdsl.ops.recurrent import Recurrent, signature
from netdsl.ops.smooth import Sigmoid, Tanh, sigmoid

GATES = 4  #: input, forget, cell, output, in this order in weights


@dataclass(frozen=True)
class Lstm(Recurrent):
    """Long short-term memory over a sequence `[batch, time, features]`.

    `i, f, o = sigmoid(W x + V h + b)`, `g = tanh(W x + V h + b)`, `c = f * c + i * g`, `h = o * tanh(c)`, a weight for
    each. Returns the sequence of `h`, `[batch, time, directions * units]`, and the last state, a tuple of `h` and `c`,
    each `[layers * directions, batch, units]`. Parameters are PyTorch's: `weight_ih_l0` `[4 * units, features]`,
    `weight_hh_l0` `[4 * units, units]`, `bias_ih_l0`, `bias_hh_l0` `[4 * units]` (gates in the order i, f, g, o), `_l1`
    and so on for more layers, `_reverse` behind for the second direction.
    """

    name: ClassVar[str] = "lstm"
    reference: ClassVar[str] = "Hochreiter & Schmidhuber 1997; Gers et al. 2000; ONNX LSTM"
    signature: ClassVar[tuple[Param, ...]] = signature(states=2)
    gates: ClassVar[int] = GATES
    states: ClassVar[int] = 2
    flops_per_unit: ClassVar[int] = 3 * Sigmoid.flops_per_element + 2 * Tanh.flops_per_element + 4

    def steps(self) -> Primitive:
        return LstmSteps(self.reverse)

    @runs_in_float32(DType.float16, DType.bfloat16, DType.float64)
    def lower(self, cx: Emitter, node: Node, *operands: str) -> tuple[str, ...]:
        return self.onnx_layer(cx, node, "LSTM", (0, 3, 1, 2), operands)


@dataclass(frozen=True)
class LstmSteps(Steps):
    """The steps of `lstm` over a projected sequence `[time, batch, 4 * units]`.

    Makes `h`, `c` and `tanh(c)`, the gates `i` and `f` together, `g`, `o`, each for all positions.
    """

    name: ClassVar[str] = "lstm_steps"
    reference: ClassVar[str] = "ONNX Scan"

    def infer(self, x: TensorType, weight: TensorType, h: TensorType, c: TensorType) -> tuple[TensorType, ...]:
        sequence = sequence_of(weight, x, h, c)
        both = sequence.with_shape((*sequence.shape[:2], 2 * weight.shape[1]))
        return sequence, sequence, sequence, both, sequence, sequence

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        return Cost(
            macs=inputs[0].size * inputs[1].shape[1], other=inputs[0].size + Lstm.flops_per_unit * outputs[0].size
        )

    def evaluate(self, x: NDArrayAny, weight: NDArrayAny, h: NDArrayAny, c: NDArrayAny) -> tuple[NDArrayAny, ...]:
        projected, matrix, state, cell = wide(x), wide(weight).T, wide(h), wide(c)
        units = len(matrix)
        made = np.empty((*projected.shape[:2], 7 * units), projected.dtype)
        for t in self.positions(len(projected)):
            terms = projected[t] + state @ matrix
            both, o = sigmoid(terms[:, : 2 * units]), sigmoid(terms[:, 3 * units :])
            new = np.tanh(terms[:, 2 * units : 3 * units])
            cell = both[:, units:] * cell + both[:, :units] * new
            bent = np.tanh(cell)
            state = o * bent
            made[t] = np.concatenate((state, cell, bent, both, new, o), -1)
        ends = [units * n for n in (1, 2, 3, 5, 6)]
        return tuple(like(part, x) for part in np.split(made, ends, -1))

    @runs_in_float32(DType.float16, DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, x: str, weight: str, h: str, c: str) -> tuple[str, ...]:
        units = units_of(node.inputs[1])

        def step(h: str, c: str, x: str) -> Sequence[str]:
            terms = cx.emit("Gemm", h, weight, x, transB=1)
            both, g, o = cx.emit_all("Split", 3, terms, cx.ints([2 * units, units, units]), axis=-1)
            both, g, o = cx.emit("Sigmoid", both), cx.emit("Tanh", g), cx.emit("Sigmoid", o)
            i, f = cx.emit_all("Split", 2, both, cx.ints([units, units]), axis=-1)
            c = cx.emit("Add", cx.emit("Mul", f, c), cx.emit("Mul", i, g))
            bent = cx.emit("Tanh", c)
            h = cx.emit("Mul", o, bent)
            return h, c, h, c, bent, both, g, o

        return scan(cx, step, (h, c), (x,), 6, self.reverse)[1]

    def gradient(
        self, cx: GradientContext, node: Node, dh: Value | None, dc: Value | None, *_: Value | None
    ) -> Sequence[Value | None]:
        x, weight, h, c = node.inputs
        states, cells, bent, both, new, o = node.outputs
        i, f = cut(cx, both, 2)
        slopes = join(
            cx,
            g.mul(cx, new, sigmoid_slope(cx, i)),
            g.mul(cx, before(cx, cells, c, self.reverse), sigmoid_slope(cx, f)),
            g.mul(cx, i, tanh_slope(cx, new)),
            g.mul(cx, bent, sigmoid_slope(cx, o)),
        )
        out = g.mul(cx, o, tanh_slope(cx, bent))
        dh = zeros(cx, x, states.shape) if dh is None else dh
        ends = (dh, *([] if dc is None else [dc]))
        gates, first_h, first_c = cx.emit_all(LstmStepsGradient(self.reverse), weight, out, slopes, f, *ends)
        dw = weight_gradient(cx, gates, before(cx, states, h, self.reverse)) if cx.wants(weight) else None
        return gates, dw, first_h, first_c


@dataclass(frozen=True)
class LstmStepsGradient(Steps):
    """The gradient of `lstm_steps` from the last step to the first: for its gates' terms `[time, batch, 4 * units]`,
    and for the states that it began with.

    `out` is `dc / dh`, `slopes` those of the gates' terms in `c` and, the last, in `h`; `dh` and, if it is there, `dc`
    come from outside.
    """

    name: ClassVar[str] = "lstm_steps_gradient"
    reference: ClassVar[str] = "ONNX Scan"
    differentiable: ClassVar[bool] = False

    def infer(self, weight: TensorType, out: TensorType, slopes: TensorType, *rest: TensorType) -> Any:
        first = out.with_shape(sequence_of(weight, out, slopes, *rest).shape[1:])
        return slopes, first, first

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        return Cost(macs=inputs[2].size * inputs[0].shape[1], other=inputs[2].size + 4 * inputs[1].size)

    def evaluate(
        self,
        weight: NDArrayAny,
        out: NDArrayAny,
        slopes: NDArrayAny,
        forget: NDArrayAny,
        dh: NDArrayAny,
        dc: NDArrayAny | None = None,
    ) -> tuple[NDArrayAny, ...]:
        gates = np.empty(slopes.shape, wide(slopes).dtype)
        state = np.zeros(out.shape[1:], gates.dtype)
        cell = state
        for t in reversed(self.positions(len(slopes))):
            state = state + wide(dh)[t]
            cell = cell + state * wide(out)[t] + (0 if dc is None else wide(dc)[t])
            gates[t] = np.concatenate((cell, cell, cell, state), -1) * wide(slopes)[t]
            state, cell = gates[t] @ wide(weight), cell * wide(forget)[t]
        return like(gates, slopes), like(state, slopes), like(cell, slopes)

    @runs_in_float32(DType.float16, DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, weight: str, *sequences: str) -> tuple[str, ...]:
        batch, units = node.inputs[1].shape[1:]
        start = cx.emit("Expand", cx.scalar(0.0, node.inputs[0].dtype), cx.shape((batch, units)))

        def step(h: str, c: str, out: str, slopes: str, forget: str, dh: str, dc: str = "") -> Sequence[str]:
            h = cx.emit("Add", h, dh)
            c = cx.emit("Add", c, cx.emit("Mul", h, out))
            c = cx.emit("Add", c, dc) if dc else c
            gates = cx.emit("Mul", cx.emit("Concat", c, c, c, h, axis=-1), slopes)
            return cx.emit("MatMul", gates, weight), cx.emit("Mul", c, forget), gates

        first, (gates,) = scan(cx, step, (start, start), sequences, 1, not self.reverse)
        return gates, *first
