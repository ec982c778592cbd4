"""Gated recurrent units."""

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
    bias_gradient,
    complement,
    cut,
    join,
    scan,
    sequence_of,
    sigmoid_slope,
    tanh_slope,
    units_of,
    weight_gradient,
)
from netdsl.ops.recurrent import Recurrent, signature
from netdsl.ops.smooth import Sigmoid, Tanh, sigmoid


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
    gates: ClassVar[int] = 3
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

    Makes `h`, the gates `r` and `z` together, `n`, and what `r` multiplies, each for all positions.
    """

    name: ClassVar[str] = "gru_steps"
    reference: ClassVar[str] = "ONNX Scan"

    def infer(self, x: TensorType, weight: TensorType, *rest: TensorType) -> tuple[TensorType, ...]:
        sequence = sequence_of(weight, x, *rest)
        both = sequence.with_shape((*sequence.shape[:2], 2 * weight.shape[1]))
        return sequence, both, sequence, sequence

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        terms = inputs[0].size * (len(inputs) - 2)
        return Cost(macs=inputs[0].size * inputs[1].shape[1], other=terms + Gru.flops_per_unit * outputs[0].size)

    def evaluate(self, x: NDArrayAny, weight: NDArrayAny, *rest: NDArrayAny) -> tuple[NDArrayAny, ...]:
        projected, matrix, state = wide(x), wide(weight).T, wide(rest[-1])
        bias = wide(rest[0]) if len(rest) > 1 else 0
        units = len(matrix)
        made = np.empty((*projected.shape[:2], 5 * units), projected.dtype)
        for t in self.positions(len(projected)):
            terms = state @ matrix + bias
            both = sigmoid(projected[t, :, : 2 * units] + terms[:, : 2 * units])
            inner = terms[:, 2 * units :]
            new = np.tanh(projected[t, :, 2 * units :] + both[:, :units] * inner)
            state = new + both[:, units:] * (state - new)
            made[t] = np.concatenate((state, both, new, inner), -1)
        return tuple(like(part, x) for part in np.split(made, [units, 3 * units, 4 * units], -1))

    @runs_in_float32(DType.float16, DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, x: str, weight: str, *rest: str) -> tuple[str, ...]:
        *bias, first = rest
        units = units_of(node.inputs[1])
        sizes = cx.ints([2 * units, units])

        def step(h: str, x: str) -> Sequence[str]:
            both, inner = cx.emit_all("Split", 2, cx.emit("Gemm", h, weight, *bias, transB=1), sizes, axis=-1)
            x_both, x_new = cx.emit_all("Split", 2, x, sizes, axis=-1)
            both = cx.emit("Sigmoid", cx.emit("Add", x_both, both))
            r, z = cx.emit_all("Split", 2, both, cx.ints([units, units]), axis=-1)
            new = cx.emit("Tanh", cx.emit("Add", x_new, cx.emit("Mul", r, inner)))
            h = cx.emit("Add", new, cx.emit("Mul", z, cx.emit("Sub", h, new)))
            return h, h, both, new, inner

        return scan(cx, step, (first,), (x,), 4, self.reverse)[1]

    def gradient(self, cx: GradientContext, node: Node, dh: Value, *_: Value | None) -> Sequence[Value | None]:
        x, weight, *bias, h = node.inputs
        states, both, new, inner = node.outputs
        r, z = cut(cx, both, 2)
        earlier = before(cx, states, h, self.reverse)
        n_slope = g.mul(cx, complement(cx, z), tanh_slope(cx, new))
        slopes = join(
            cx,
            g.mul(cx, g.mul(cx, n_slope, inner), sigmoid_slope(cx, r)),
            g.mul(cx, g.sub(cx, earlier, new), sigmoid_slope(cx, z)),
            g.mul(cx, n_slope, r),
        )
        gates, total, first = cx.emit_all(GruStepsGradient(self.reverse), weight, slopes, z, dh)
        of_r, of_z, _n = cut(cx, gates, 3)
        dx = join(cx, of_r, of_z, g.mul(cx, total, n_slope)) if cx.wants(x) else None
        dw = weight_gradient(cx, gates, earlier) if cx.wants(weight) else None
        return dx, dw, *(bias_gradient(cx, gates) for _ in bias), first


@dataclass(frozen=True)
class GruStepsGradient(Steps):
    """The gradient of `gru_steps` from the last step to the first: for `V h + d` `[time, batch, 3 * units]`, for every
    `h` `[time, batch, units]`, and for the one that it began with.

    `slopes` are those of `V h + d` in `h`, `keep` is `z`; `dh` comes from outside.
    """

    name: ClassVar[str] = "gru_steps_gradient"
    reference: ClassVar[str] = "ONNX Scan"
    differentiable: ClassVar[bool] = False

    def infer(self, weight: TensorType, slopes: TensorType, keep: TensorType, dh: TensorType) -> Any:
        sequence = sequence_of(weight, slopes, keep, dh)
        return slopes, sequence, sequence.with_shape(sequence.shape[1:])

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        return Cost(macs=inputs[1].size * inputs[0].shape[1], other=inputs[1].size + 3 * inputs[2].size)

    def evaluate(self, weight: NDArrayAny, slopes: NDArrayAny, keep: NDArrayAny, dh: NDArrayAny) -> Any:
        gates = np.empty(slopes.shape, wide(slopes).dtype)
        totals = np.empty(dh.shape, gates.dtype)
        state = np.zeros(dh.shape[1:], gates.dtype)
        for t in reversed(self.positions(len(slopes))):
            totals[t] = state = state + wide(dh)[t]
            gates[t] = np.concatenate((state, state, state), -1) * wide(slopes)[t]
            state = gates[t] @ wide(weight) + state * wide(keep)[t]
        return like(gates, slopes), like(totals, slopes), like(state, slopes)

    @runs_in_float32(DType.float16, DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, weight: str, *sequences: str) -> tuple[str, ...]:
        start = cx.emit("Expand", cx.scalar(0.0, node.inputs[0].dtype), cx.shape(node.inputs[2].shape[1:]))

        def step(h: str, slopes: str, keep: str, dh: str) -> Sequence[str]:
            total = cx.emit("Add", h, dh)
            gates = cx.emit("Mul", cx.emit("Concat", total, total, total, axis=-1), slopes)
            h = cx.emit("Gemm", gates, weight, cx.emit("Mul", total, keep))
            return h, gates, total

        (first,), (gates, totals) = scan(cx, step, (start,), sequences, 2, not self.reverse)
        return gates, totals, first
