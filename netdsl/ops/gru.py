"""Gated recurrent units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from netdsl.ir.arguments import Param
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Cost, Emitter, GradientContext, Primitive
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.recurrence import Steps, arrived, sequence_of, units_of, weight_gradient
from netdsl.ops.recurrent import Recurrent, signature
from netdsl.ops.scan import scan
from netdsl.ops.smooth import Sigmoid, Tanh, sigmoid

GATES = 3  #: reset, update, new, in this order in weights


@dataclass(frozen=True)
class Gru(Recurrent):
    """Gated recurrent units over a sequence `[batch, time, features]`.

    `r, z = sigmoid(W x + V h + b)`, `n = tanh(W x + b + r * (V h + d))`, `h = (1 - z) * n + z * h`, weights for each.
    Returns the sequence of `h`, `[batch, time, directions * units]`, and the last one, `[layers * directions, batch,
    units]`. Parameters are PyTorch's: `weight_ih_l0` `[3 * units, features]`, `weight_hh_l0` `[3 * units, units]`,
    `bias_ih_l0`, `bias_hh_l0` `[3 * units]` (gates in the order r, z, n), `_l1` and so on for more layers, `_reverse`
    behind for the second direction.
    """

    name: ClassVar[str] = "gru"
    reference: ClassVar[str] = "Cho et al. 2014 (arXiv:1406.1078); ONNX GRU with linear_before_reset"
    signature: ClassVar[tuple[Param, ...]] = signature()
    gates: ClassVar[int] = GATES
    flops_per_unit: ClassVar[int] = 2 * Sigmoid.flops_per_element + Tanh.flops_per_element + 5
    step_bias: ClassVar[bool] = True

    def steps(self) -> Primitive:
        return GruSteps(self.reverse)

    @runs_in_float32(DType.float16, DType.bfloat16, DType.float64)
    def lower(self, cx: Emitter, node: Node, *operands: str) -> tuple[str, ...]:
        return self.onnx_layer(cx, node, "GRU", (1, 0, 2), operands, linear_before_reset=1)


@dataclass(frozen=True)
class GruSteps(Steps):
    """The steps of `gru` over a projected sequence `[time, batch, 3 * units]`, with `bias_hh` or without.

    Makes every `h`, the last one, and for the gradient, for all positions: the `h` before; the slopes of the terms of r
    and z together, and of n; r; and z, which is `dh / dh` of the step before.
    """

    name: ClassVar[str] = "gru_steps"
    reference: ClassVar[str] = "ONNX Scan"

    def infer(self, x: TensorType, weight: TensorType, *rest: TensorType) -> tuple[TensorType, ...]:
        sequence = sequence_of(self.name, weight, x, rest[-1])
        both = x.with_shape((*x.shape[:2], 2 * weight.shape[1]))
        return sequence, rest[-1], sequence, both, sequence, sequence, sequence

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        """The cell's operations, and 8 per unit for the slopes."""
        other = inputs[0].size * (len(inputs) - 2) + (Gru.flops_per_unit + 8) * outputs[0].size
        return Cost(macs=inputs[0].size * inputs[1].shape[1], other=other)

    def evaluate(self, x: NDArrayAny, weight: NDArrayAny, *rest: NDArrayAny) -> tuple[NDArrayAny, ...]:
        terms, matrix, state = wide(x), wide(weight).T, wide(rest[-1])
        bias = wide(rest[0]) if len(rest) > 1 else 0
        made = [np.empty((*x.shape[:2], size), terms.dtype) for size in np.multiply(len(matrix), (1, 1, 2, 1, 1, 1))]
        for t in self.positions(len(terms)):
            inner = np.split(state @ matrix + bias, GATES, -1)
            outer = np.split(terms[t], GATES, -1)
            r, z = sigmoid(outer[0] + inner[0]), sigmoid(outer[1] + inner[1])
            new = np.tanh(outer[2] + r * inner[2])
            last, state = state, new + z * (state - new)
            of_new = (1 - z) * (1 - new * new)
            both = np.concatenate((of_new * inner[2] * r * (1 - r), (last - new) * z * (1 - z)), -1)
            for sequence, result in zip(made, (state, last, both, of_new, r, z), strict=True):
                sequence[t] = result
        return tuple(like(array, x) for array in (made[0], state, *made[1:]))

    @runs_in_float32(DType.float16, DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, x: str, weight: str, *rest: str) -> tuple[str, ...]:
        *bias, first = rest
        units, one = units_of(node.inputs[1]), cx.scalar(1.0, node.inputs[0].dtype)
        sizes, halves = cx.ints([2 * units, units]), cx.ints([units, units])

        def step(last: str, x: str) -> Sequence[str]:
            both, inner = cx.emit_all("Split", 2, cx.emit("Gemm", last, weight, *bias, transB=1), sizes, axis=-1)
            x_both, x_new = cx.emit_all("Split", 2, x, sizes, axis=-1)
            both = cx.emit("Sigmoid", cx.emit("Add", x_both, both))
            r, z = cx.emit_all("Split", 2, both, halves, axis=-1)
            passed = cx.emit("Mul", r, inner)
            new = cx.emit("Tanh", cx.emit("Add", x_new, passed))
            kept = cx.emit("Mul", z, cx.emit("Sub", last, new))
            h = cx.emit("Add", new, kept)
            rest = cx.emit("Sub", one, both)
            of_new = cx.emit("Sub", one, cx.emit("Mul", new, new))
            of_new = cx.emit("Mul", of_new, cx.emit_all("Split", 2, rest, halves, axis=-1)[1])
            ends = cx.emit("Concat", cx.emit("Mul", of_new, passed), kept, axis=-1)
            return h, h, last, cx.emit("Mul", ends, rest), of_new, r, z

        states, (sequence, *kept) = scan(cx, step, (first,), (x,), 6, self.reverse)
        return sequence, *states, *kept

    def gradient(self, cx: GradientContext, node: Node, *grads: Value | None) -> Sequence[Value | None]:
        _, weight, *bias, _ = node.inputs
        before, *slopes = node.outputs[2:]
        starts = arrived(cx, node.outputs[:2], grads[:2])
        outer, inner, h = cx.emit_all(GruStepsGradient(self.reverse), weight, *slopes, *starts)
        dw = weight_gradient(cx, inner, before) if cx.wants(weight) else None
        return outer, dw, *(g.total(cx, inner, (0, 1)) for _ in bias), h


@dataclass(frozen=True)
class GruStepsGradient(Steps):
    """The gradient of `gru_steps` from the last step to the first: for the terms that come in and for those of the
    state, each `[time, batch, 3 * units]`, and for the `h` that it began with. Reads the slopes, r and z of
    `gru_steps`, and the gradients for every `h` and for the last one."""

    name: ClassVar[str] = "gru_steps_gradient"
    reference: ClassVar[str] = "ONNX Scan"
    differentiable: ClassVar[bool] = False

    def infer(self, weight: TensorType, both: TensorType, *rest: TensorType) -> tuple[TensorType, ...]:
        sequence_of(self.name, weight, both, rest[-1])
        terms = both.with_shape((*both.shape[:2], weight.shape[0]))
        return terms, terms, rest[-1]

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        return Cost(macs=outputs[0].size * inputs[0].shape[1], other=outputs[0].size + 4 * inputs[2].size)

    def evaluate(
        self,
        weight: NDArrayAny,
        both: NDArrayAny,
        of_new: NDArrayAny,
        r: NDArrayAny,
        z: NDArrayAny,
        dh: NDArrayAny,
        h: NDArrayAny,
    ) -> tuple[NDArrayAny, ...]:
        outer = np.empty((*both.shape[:2], len(weight)), wide(both).dtype)
        inner = np.empty_like(outer)
        state = wide(h)
        for t in reversed(self.positions(len(both))):
            state = state + wide(dh)[t]
            ends = np.concatenate((state, state), -1) * wide(both)[t]
            new = state * wide(of_new)[t]
            outer[t] = np.concatenate((ends, new), -1)
            inner[t] = np.concatenate((ends, new * wide(r)[t]), -1)
            state = inner[t] @ wide(weight) + state * wide(z)[t]
        return like(outer, both), like(inner, both), like(state, both)

    @runs_in_float32(DType.float16, DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, weight: str, *operands: str) -> tuple[str, ...]:
        def step(h: str, both: str, of_new: str, r: str, z: str, dh: str) -> Sequence[str]:
            h = cx.emit("Add", h, dh)
            ends = cx.emit("Mul", cx.emit("Concat", h, h, axis=-1), both)
            new = cx.emit("Mul", h, of_new)
            inner = cx.emit("Concat", ends, cx.emit("Mul", new, r), axis=-1)
            h = cx.emit("Gemm", inner, weight, cx.emit("Mul", h, z))
            return h, cx.emit("Concat", ends, new, axis=-1), inner

        (first,), (outer, inner) = scan(cx, step, operands[5:], operands[:5], 2, not self.reverse)
        return outer, inner, first
