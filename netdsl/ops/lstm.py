"""Long short-term memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from netdsl.ir.arguments import Param
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Cost, Emitter, GradientContext, Primitive
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.recurrence import Steps, arrived, sequence_of, units_of, weight_gradient
from netdsl.ops.recurrent import Recurrent, signature
from netdsl.ops.scan import scan
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

    Makes every `h`, the last `h` and `c`, and for the gradient, for all positions: the `h` before; the slopes of the
    gates' terms, in `c` for i, f, g and in `h` for o; `dh / dc`; and f, which is `dc / dc` of the step before.
    """

    name: ClassVar[str] = "lstm_steps"
    reference: ClassVar[str] = "ONNX Scan"

    def infer(self, x: TensorType, weight: TensorType, h: TensorType, c: TensorType) -> tuple[TensorType, ...]:
        sequence = sequence_of(self.name, weight, x, h, c)
        return sequence, h, c, sequence, x, sequence, sequence

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        """The cell's operations, and 11 per unit for the slopes."""
        other = inputs[0].size + (Lstm.flops_per_unit + 11) * outputs[0].size
        return Cost(macs=inputs[0].size * inputs[1].shape[1], other=other)

    def evaluate(self, x: NDArrayAny, weight: NDArrayAny, h: NDArrayAny, c: NDArrayAny) -> tuple[NDArrayAny, ...]:
        terms, matrix, state, cell = wide(x), wide(weight).T, wide(h), wide(c)
        made = [np.empty((*x.shape[:2], size), terms.dtype) for size in np.multiply(len(matrix), (1, 1, 4, 1, 1))]
        for t in self.positions(len(terms)):
            i, f, new, o = np.split(terms[t] + state @ matrix, GATES, -1)
            i, f, new, o = sigmoid(i), sigmoid(f), np.tanh(new), sigmoid(o)
            before, last, cell = cell, state, f * cell + i * new
            bent = np.tanh(cell)
            state = o * bent
            slopes = (new * i * (1 - i), before * f * (1 - f), i * (1 - new * new), state * (1 - o))
            results = state, last, np.concatenate(slopes, -1), o * (1 - bent * bent), f
            for sequence, result in zip(made, results, strict=True):
                sequence[t] = result
        return tuple(like(array, x) for array in (made[0], state, cell, *made[1:]))

    @runs_in_float32(DType.float16, DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, x: str, weight: str, h: str, c: str) -> tuple[str, ...]:
        units, one = units_of(node.inputs[1]), cx.scalar(1.0, node.inputs[0].dtype)

        def step(last: str, c: str, x: str) -> Sequence[str]:
            terms = cx.emit("Gemm", last, weight, x, transB=1)
            both, new, o = cx.emit_all("Split", 3, terms, cx.ints([2 * units, units, units]), axis=-1)
            both, new, o = cx.emit("Sigmoid", both), cx.emit("Tanh", new), cx.emit("Sigmoid", o)
            i, f = cx.emit_all("Split", 2, both, cx.ints([units, units]), axis=-1)
            kept, added = cx.emit("Mul", f, c), cx.emit("Mul", i, new)
            c = cx.emit("Add", kept, added)
            bent = cx.emit("Tanh", c)
            h = cx.emit("Mul", o, bent)
            ends = cx.emit("Mul", cx.emit("Concat", added, kept, axis=-1), cx.emit("Sub", one, both))
            of_new = cx.emit("Sub", i, cx.emit("Mul", added, new))
            of_o = cx.emit("Mul", h, cx.emit("Sub", one, o))
            slopes = cx.emit("Concat", ends, of_new, of_o, axis=-1)
            return h, c, h, last, slopes, cx.emit("Sub", o, cx.emit("Mul", h, bent)), f

        last, (sequence, *kept) = scan(cx, step, (h, c), (x,), 5, self.reverse)
        return sequence, *last, *kept

    def gradient(self, cx: GradientContext, node: Node, *grads: Value | None) -> Sequence[Value | None]:
        weight = node.inputs[1]
        *_, before, slopes, bend, f = node.outputs
        starts = arrived(cx, node.outputs[:3], grads[:3])
        terms, h, c = cx.emit_all(LstmStepsGradient(self.reverse), weight, slopes, bend, f, *starts)
        return terms, weight_gradient(cx, terms, before) if cx.wants(weight) else None, h, c


@dataclass(frozen=True)
class LstmStepsGradient(Steps):
    """The gradient of `lstm_steps` from the last step to the first: for the terms of its gates `[time, batch, 4 *
    units]`, and for the `h` and `c` that it began with. Reads the slopes, `dh / dc` and `dc / dc` of `lstm_steps`, and
    the gradients for every `h` and for the last `h` and `c`."""

    name: ClassVar[str] = "lstm_steps_gradient"
    reference: ClassVar[str] = "ONNX Scan"
    differentiable: ClassVar[bool] = False

    def infer(self, weight: TensorType, slopes: TensorType, *rest: TensorType) -> tuple[TensorType, ...]:
        sequence_of(self.name, weight, slopes, *rest[3:])
        return slopes, *rest[3:]

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        return Cost(macs=inputs[1].size * inputs[0].shape[1], other=inputs[1].size + 4 * inputs[2].size)

    def evaluate(
        self,
        weight: NDArrayAny,
        slopes: NDArrayAny,
        bend: NDArrayAny,
        forget: NDArrayAny,
        dh: NDArrayAny,
        h: NDArrayAny,
        c: NDArrayAny,
    ) -> tuple[NDArrayAny, ...]:
        terms = np.empty(slopes.shape, wide(slopes).dtype)
        state, cell = wide(h), wide(c)
        for t in reversed(self.positions(len(slopes))):
            state = state + wide(dh)[t]
            cell = cell + state * wide(bend)[t]
            terms[t] = np.concatenate((cell, cell, cell, state), -1) * wide(slopes)[t]
            state, cell = terms[t] @ wide(weight), cell * wide(forget)[t]
        return like(terms, slopes), like(state, slopes), like(cell, slopes)

    @runs_in_float32(DType.float16, DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, weight: str, *operands: str) -> tuple[str, ...]:
        def step(h: str, c: str, slopes: str, bend: str, forget: str, dh: str) -> Sequence[str]:
            h = cx.emit("Add", h, dh)
            c = cx.emit("Add", c, cx.emit("Mul", h, bend))
            terms = cx.emit("Mul", cx.emit("Concat", c, c, c, h, axis=-1), slopes)
            return cx.emit("MatMul", terms, weight), cx.emit("Mul", c, forget), terms

        first, (terms,) = scan(cx, step, operands[4:], operands[:4], 1, not self.reverse)
        return terms, *first
