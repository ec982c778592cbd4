"""Recurrent layers of this engine: it differentiates LSTM and GRU that run forward from given states, and no RNN."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import GradientContext
from netdsl.ir.types import DType
from netdsl.ops import gradient_tools as g
from netdsl.ops.activation import Relu
from netdsl.ops.dense import Dense
from netdsl.ops.gather import Gather
from netdsl.ops.indexing import Slice
from netdsl.ops.joining import Concat
from netdsl.ops.recurrence import zeros
from netdsl.ops.recurrent import Recurrent
from netdsl.ops.rnn import Rnn
from netdsl.ops.smooth import Tanh
from netdsl.training.engines.onnxruntime_training.forms import Refused


def recurrent(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    """`lstm` and `gru`, from states that are given; running backwards is reading the positions in the other order."""
    op, (x, *weights) = node.op, node.inputs
    assert isinstance(op, Recurrent)
    states = [] if op.state else [zeros(cx, x, (1, x.shape[0], weights[1].shape[1]))] * op.states
    if op.reverse:
        x = _turned(cx, x)
    y, *last = cx.emit_all(replace(op, reverse=False, state=True), x, *weights, *states)
    return _turned(cx, y) if op.reverse else y, *last


def rnn(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    """Position by position."""
    op, (x, weight_ih, weight_hh, *rest) = node.op, node.inputs
    assert isinstance(op, Rnn)
    time = x.shape[1]
    if not isinstance(time, int):
        raise Refused("over a symbolic time axis")
    biases, states = op.parts(rest)
    units = weight_hh.shape[1]
    terms = cx.emit(Dense(), x, weight_ih, *biases[:1])
    h = g.reshape(cx, states[0], (x.shape[0], units)) if states else zeros(cx, x, (x.shape[0], units))
    made: list[Value] = [h] * time
    for t in range(time - 1, -1, -1) if op.reverse else range(time):
        one = g.reshape(cx, cx.emit(Slice((t,), (t + 1,), (1,), (1,)), terms), h.shape)
        total = g.add(cx, one, cx.emit(Dense(), h, weight_hh, *biases[1:]))
        made[t] = h = cx.emit(Tanh() if op.nonlinearity == "tanh" else Relu(), total)
    sequence = cx.emit(Concat(1), *(g.unsqueeze(cx, step, (1,)) for step in made))
    return sequence, g.unsqueeze(cx, h, (0,))


def _turned(cx: GradientContext, x: Value) -> Value:
    """The positions in the other order."""
    time = x.shape[1]
    if not isinstance(time, int):
        raise Refused("from the end to the beginning of a symbolic time axis")
    return cx.emit(Gather(1), x, cx.constant(np.arange(time - 1, -1, -1), DType.int64))
