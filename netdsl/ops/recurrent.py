"""What recurrent layers share: arguments, parameters, stacked and bidirectional layers, the forms of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.arguments import BOOL, INITIALIZERS, POSITIVE, RATE, TENSOR, ArgumentError, Int, Kind, Param
from netdsl.ir.dims import Dim, decide
from netdsl.ir.graph import Node, Value
from netdsl.ir.initializer import XAVIER_UNIFORM, ZEROS, Initializer
from netdsl.ir.opdef import (
    Cost,
    Emitter,
    GradientContext,
    LayerContext,
    Primitive,
    ShapeError,
    TrainingContext,
    require_float,
    same_dtype,
)
from netdsl.ir.reach import WHOLE, Reach
from netdsl.ir.types import NDArrayAny, TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops.dense import Dense
from netdsl.ops.joining import Concat, Split
from netdsl.ops.precision import like, wide
from netdsl.ops.recurrence import zeros
from netdsl.ops.regularisation import Dropout
from netdsl.ops.tape import formula_gradient

MAX_LAYERS = 1000


@dataclass(frozen=True)
class States(Kind):
    """As many tensors as a cell has states, or none. Converts to a tuple."""

    count: int = 1
    is_tensor = True

    def convert(self, value: Any) -> tuple[Value, ...]:
        if value is None:
            return ()
        items = tuple(value) if isinstance(value, list | tuple) and self.count > 1 else (value,)
        if len(items) == self.count and all(isinstance(v, Value) for v in items):
            return items
        raise ArgumentError("a tensor, or none" if self.count == 1 else "a pair of tensors (h, c), or none")


def signature(*own: Param, states: int = 1) -> tuple[Param, ...]:
    """The arguments of a recurrent layer, those of its own cell behind the common ones."""
    return (
        Param("x", TENSOR),
        Param("units", POSITIVE, doc="size of the state"),
        Param("layers", Int("positive integer", low=1, high=MAX_LAYERS), 1, doc="each reads the sequence of the last"),
        Param("bidirectional", BOOL, False, doc="a second set of parameters runs from the end to the beginning"),
        *own,
        Param("bias", BOOL, True),
        Param("dropout", RATE, 0.0, doc="between layers, in training"),
        Param(
            "state",
            States("tensor or none" if states == 1 else "pair of tensors or none", states),
            (),
            doc="what the first step begins with, `[layers * directions, batch, units]`; zeros unless given",
        ),
        *INITIALIZERS,
    )


@dataclass(frozen=True)
class Recurrent(Primitive):
    """One layer in one direction.

    Operands: `x` `[batch, time, features]`, `weight_ih` `[gates * units, features]`, `weight_hh` `[gates * units,
    units]`, with `bias` `bias_ih` and `bias_hh` `[gates * units]`, with `state` the cell's states `[1, batch, units]`.
    Results: the sequence `[batch, time, units]` and the last states `[1, batch, units]`.
    """

    reverse: bool = False
    bias: bool = True
    state: bool = False

    family: ClassVar[str] = "recurrent"
    gates: ClassVar[int]
    states: ClassVar[int] = 1
    flops_per_unit: ClassVar[int]  #: of a step, without the gates' matrix products and the sums of their terms

    @classmethod
    def call(
        cls,
        cx: LayerContext,
        x: Value,
        units: int,
        layers: int,
        bidirectional: bool,
        bias: bool,
        dropout: float,
        state: tuple[Value, ...],
        weight_init: Initializer | None,
        bias_init: Initializer | None,
        **own: Any,
    ) -> tuple[Any, ...]:
        check_sequence(cls.name, x.type)
        count = layers * (1 + bidirectional)
        starts = [_split_state(cx, cls.name, s, (count, x.shape[0], units), x) for s in state]
        lasts: list[tuple[Value, ...]] = []
        for layer in range(layers):
            if layer and dropout and not cx.frozen:
                x = cx.emit(Dropout(dropout), x)
            made = []
            for reverse in (False, True)[: 1 + bidirectional]:
                suffix = f"_l{layer}{'_reverse' if reverse else ''}"
                weights = _parameters(cx, cls.gates * units, units, x, suffix, bias, weight_init, bias_init)
                op = cls(reverse=reverse, bias=bias, state=bool(state), **own)
                y, *last = cx.emit_all(op, x, *weights, *(s[len(lasts)] for s in starts))
                made.append(y)
                lasts.append(tuple(last))
            x = _joined(cx, made, 2)
        ends = tuple(_joined(cx, list(values), 0) for values in zip(*lasts, strict=True))
        return x, ends[0] if cls.states == 1 else ends

    def parts(self, rest: Sequence[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Biases and states, from the operands behind the weights."""
        return tuple(rest[: 2 * self.bias]), tuple(rest[2 * self.bias :])

    def infer(self, x: TensorType, weight_ih: TensorType, weight_hh: TensorType, *rest: TensorType) -> Any:
        same_dtype(self.name, x, weight_ih, weight_hh, *rest)
        check_sequence(self.name, x)
        rows, units = weight_hh.shape
        if weight_ih.shape != (rows, x.shape[2]) or rows != self.gates * units:
            raise ShapeError(f"{self.name}: the weights {weight_ih} and {weight_hh} do not fit {x}")
        last = x.with_shape((1, x.shape[0], units))
        return x.with_shape((*x.shape[:2], units)), *[last] * self.states

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        """Both matrix products of every gate at every position. The others: sums of their terms, and the cell's own."""
        features, units = inputs[0].shape[2], inputs[2].shape[1]
        steps = outputs[0].size
        terms = self.gates * (3 if self.bias else 1)
        return Cost(macs=steps * self.gates * (features + units), other=steps * (terms + self.flops_per_unit))

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE

    # The steps, behind one matrix product ------------------------------------------------------------------------

    def steps(self) -> Primitive:
        """The cell's steps: of the projected sequence, the recurrent weight, with `step_bias` `bias_hh`, the states.
        Their first results are the sequence and the last states."""
        raise TypeError(f"{self.name} defines no steps")

    step_bias: ClassVar[bool] = False  #: whether the steps add `bias_hh`; else the projection does

    def evaluate(self, x: NDArrayAny, weight_ih: NDArrayAny, weight_hh: NDArrayAny, *rest: NDArrayAny) -> Any:
        biases, states = self.parts(rest)
        projected = np.matmul(wide(x).swapaxes(0, 1), wide(weight_ih).T)
        for bias in biases[: 1 if self.step_bias else 2]:
            projected = projected + wide(bias)
        own = [wide(biases[1])] if self.step_bias and biases else []
        first = [wide(s)[0] for s in states] or [np.zeros((len(x), weight_hh.shape[1]), projected.dtype)] * self.states
        made = self.steps().evaluate(projected, wide(weight_hh), *own, *first)
        return like(made[0].swapaxes(0, 1), x), *(like(last[None], x) for last in made[1 : 1 + self.states])

    def form(
        self, cx: GradientContext, x: Value, weight_ih: Value, weight_hh: Value, *rest: Value
    ) -> tuple[Value, ...]:
        """The layer as one matrix product for all positions and the cell's steps."""
        biases, states = self.parts(rest)
        shape = (x.shape[0], weight_hh.shape[1])
        projection = biases[:1] if self.step_bias or not biases else (g.add(cx, *biases),)
        projected = cx.emit(Dense(), g.transpose(cx, x, (1, 0, 2)), weight_ih, *projection)
        own = biases[1:] if self.step_bias else ()
        first = [g.reshape(cx, s, shape) for s in states] or [zeros(cx, x, shape)] * self.states
        made = cx.emit_all(self.steps(), projected, weight_hh, *own, *first)
        lasts = [g.unsqueeze(cx, last, (0,)) for last in made[1 : 1 + self.states]]
        return g.transpose(cx, made[0], (1, 0, 2)), *lasts

    def training(self, cx: TrainingContext, node: Node) -> tuple[Value, ...] | None:
        """In training the steps keep what their gradient reads."""
        trained = any(cx.wants(v) for v in node.inputs[1:])
        return self.form(cx, *node.inputs) if trained else None

    def gradient(self, cx: GradientContext, node: Node, *grads: Value | None) -> Sequence[Value | None]:
        return formula_gradient(cx, node, self.form, *grads)

    # ONNX ----------------------------------------------------------------------------------------------------------

    def onnx_layer(
        self, cx: Emitter, node: Node, op_type: str, order: Sequence[int], operands: Sequence[str], **attributes: Any
    ) -> tuple[str, ...]:
        """ONNX RNN, GRU or LSTM: `[time, batch, …]`, the gates in another order, an axis for directions."""
        count = 3 + 2 * self.bias
        named = zip(operands[1:count], node.inputs[1:count], strict=True)
        weight_ih, weight_hh, *biases = (self._ordered(cx, name, v, order) for name, v in named)
        weights = [cx.emit("Unsqueeze", name, cx.ints([0])) for name in (weight_ih, weight_hh)]
        bias = cx.emit("Unsqueeze", cx.emit("Concat", *biases, axis=0), cx.ints([0])) if biases else ""
        given = [cx.emit("Transpose", operands[0], perm=[1, 0, 2]), *weights, bias, "", *operands[count:]]
        while not given[-1]:
            given.pop()
        direction = "reverse" if self.reverse else "forward"
        made = cx.emit_all(
            op_type, 1 + self.states, *given, hidden_size=node.inputs[2].shape[1], direction=direction, **attributes
        )
        sequence = cx.emit("Squeeze", made[0], cx.ints([1]))
        return cx.emit("Transpose", sequence, perm=[1, 0, 2]), *made[1:]

    def _ordered(self, cx: Emitter, name: str, value: Value, order: Sequence[int]) -> str:
        """A weight or bias with its gates in another order."""
        if list(order) == sorted(order):
            return name
        rows, *rest = (d for d in value.shape if isinstance(d, int))
        cut = cx.emit("Reshape", name, cx.ints([self.gates, rows // self.gates, *rest]))
        return cx.emit("Reshape", cx.emit("Gather", cut, cx.ints(order), axis=0), cx.ints([rows, *rest]))


def check_sequence(op: str, x: TensorType) -> None:
    """Raises ShapeError unless the tensor is a sequence of a known number of features."""
    if x.dtype.is_integer and x.rank == 2:
        raise ShapeError(
            f"{op} needs a sequence of float vectors [batch, time, features], found {x}",
            help="embedding(ids, vocabulary, dim) makes a vector of each id",
        )
    require_float(op, x)
    if x.rank != 3:
        help = (
            "unsqueeze(x, 1) adds an axis of time" if x.rank == 2 else "flatten(x, 2) makes one axis of the last ones"
        )
        raise ShapeError(
            f"{op} needs a sequence [batch, time, features], found {x} of rank {x.rank}",
            help=help if x.rank > 1 else (),
        )
    if not isinstance(x.shape[2], int):
        raise ShapeError(
            f"{op} needs a known number of features (last axis), found {x}",
            help="give the input's last axis a number; batch and time may be symbols",
        )


def _split_state(cx: LayerContext, op: str, state: Value, shape: tuple[Dim, ...], x: Value) -> tuple[Value, ...]:
    """The state of each layer and direction. Raises ShapeError where it does not fit."""
    wanted = x.type.with_shape(shape)
    fits = state.dtype is x.dtype and state.rank == 3
    if not fits or not all(decide("==", a, b) is True for a, b in zip(state.shape, shape, strict=True)):
        raise ShapeError(
            f"{op}: the state should be {wanted} [layers * directions, batch, units], found {state.type}",
            argument="state",
        )
    count = shape[0]
    assert isinstance(count, int)
    return (state,) if count == 1 else cx.emit_all(Split((1,) * count, 0), state)


def _parameters(
    cx: LayerContext,
    rows: int,
    units: int,
    x: Value,
    suffix: str,
    bias: bool,
    weight_init: Initializer | None,
    bias_init: Initializer | None,
) -> list[Value]:
    made = []
    for name, size in (("ih", x.shape[2]), ("hh", units)):
        assert isinstance(size, int)
        weights = (weight_init or XAVIER_UNIFORM).with_fans(size, rows)
        made.append(cx.parameter(f"weight_{name}{suffix}", (rows, size), weights, dtype=x.dtype))
    for name in ("ih", "hh") if bias else ():
        biases = (bias_init or ZEROS).with_fans(units, rows)
        made.append(cx.parameter(f"bias_{name}{suffix}", (rows,), biases, dtype=x.dtype))
    return made


def _joined(cx: LayerContext, parts: Sequence[Value], axis: int) -> Value:
    return parts[0] if len(parts) == 1 else cx.emit(Concat(axis), *parts)
