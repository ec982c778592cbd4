"""Attention as a layer: projections of queries, keys and values before it, and of the result."""

from __future__ import annotations

from typing import ClassVar

from netdsl.ir.arguments import BOOL, INITIALIZERS, POSITIVE, RATE, TENSOR, Param
from netdsl.ir.graph import Value
from netdsl.ir.initializer import XAVIER_UNIFORM, ZEROS, Initializer
from netdsl.ir.opdef import LayerContext, Operator, ShapeError, same_dtype
from netdsl.ops.attention import MASK_DOC, Attention, attend, check_features
from netdsl.ops.dense import Dense
from netdsl.ops.indexing import Slice
from netdsl.ops.joining import Split
from netdsl.ops.optional import OPTIONAL_TENSOR


class MultiHeadAttention(Operator):
    """Attention of `x` `[N, L, E]` to itself, or to `key` and `value` `[N, S, …]`, between linear projections.

    `key` is `x` unless given, `value` the key: `multi_head_attention(x, 8)` is self-attention,
    `multi_head_attention(x, 8, memory)` attention to another sequence. The result is `[N, L, E]`.

    Parameters: `in_proj_weight` `[3*E, E]` (queries, keys, values) and `in_proj_bias` `[3*E]`, `out_proj.weight`
    `[E, E]` and `out_proj.bias` `[E]`; where the key or value has other than E features, `q_proj_weight`,
    `k_proj_weight` and `v_proj_weight` `[E, …]` instead of the first. `dropout` sets shares of attention to 0 in
    training. In the mask true is where attention may go, the opposite of PyTorch's MultiheadAttention.
    """

    name: ClassVar[str] = "multi_head_attention"
    family: ClassVar[str] = "attention"
    reference: ClassVar[str] = "Vaswani et al. 2017 (arXiv:1706.03762); ONNX Attention"
    signature: ClassVar[tuple[Param, ...]] = (
        Param("x", TENSOR),
        Param("heads", POSITIVE),
        Param("key", OPTIONAL_TENSOR, None, doc="what is attended to; none: `x`"),
        Param("value", OPTIONAL_TENSOR, None, doc="what is taken from there; none: the key"),
        Param("causal", BOOL, False),
        Param("mask", OPTIONAL_TENSOR, None, doc=MASK_DOC),
        Param("bias", BOOL, True),
        Param("dropout", RATE, 0.0),
        *INITIALIZERS,
    )

    @classmethod
    def call(
        cls,
        cx: LayerContext,
        x: Value,
        heads: int,
        key: Value | None,
        value: Value | None,
        causal: bool,
        mask: Value | None,
        bias: bool,
        dropout: float,
        weight_init: Initializer | None,
        bias_init: Initializer | None,
    ) -> Value:
        key = x if key is None else key
        value = key if value is None else value
        check_features(cls.name, "x", x.type, heads)
        for name, other in (("key", key), ("value", value)):
            check_features(cls.name, name, other.type, 1)
            same_dtype(cls.name, x.type, other.type)
        projection = _Projection(cx, x, bias, weight_init or XAVIER_UNIFORM, bias_init or ZEROS)
        parts = projection.inward(key, value)
        op = Attention(heads, causal, dropout=0.0 if cx.frozen else dropout)
        return projection.outward(attend(cx, op, *parts, mask))


class _Projection:
    """The parameters of one layer."""

    def __init__(
        self, cx: LayerContext, x: Value, bias: bool, weight_init: Initializer, bias_init: Initializer
    ) -> None:
        self._cx = cx
        self._x = x
        self._size = _integer(x)
        self._bias = bias
        self._weight_init = weight_init
        self._bias_init = bias_init

    def _parameter(self, name: str, rows: int, columns: int) -> Value:
        weights = self._weight_init.with_fans(columns, rows)
        return self._cx.parameter(name, (rows, columns), weights, dtype=self._x.dtype)

    def _vector(self, name: str, rows: int) -> list[Value]:
        if not self._bias:
            return []
        biases = self._bias_init.with_fans(self._size, rows)
        return [self._cx.parameter(name, (rows,), biases, dtype=self._x.dtype)]

    def inward(self, key: Value, value: Value) -> tuple[Value, Value, Value]:
        """Queries, keys and values; those of one tensor in one product."""
        size, sources = self._size, (self._x, key, value)
        if any(_integer(v) != size for v in sources):
            names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
            weights = [self._parameter(n, size, _integer(v)) for n, v in zip(names, sources, strict=True)]
            biases = self._vector("in_proj_bias", 3 * size)
            q, k, v = (
                self._cx.emit(Dense(), x, w, *(self._rows(b, i, i + 1) for b in biases))
                for i, (x, w) in enumerate(zip(sources, weights, strict=True))
            )
            return q, k, v
        weight = self._parameter("in_proj_weight", 3 * size, size)
        return self._packed(sources, [weight, *self._vector("in_proj_bias", 3 * size)])

    def _packed(self, sources: tuple[Value, Value, Value], parameters: list[Value]) -> tuple[Value, Value, Value]:
        made: list[Value] = []
        while len(made) < 3:
            start = end = len(made)
            while end < 3 and sources[end] is sources[start]:
                end += 1
            rows = [self._rows(p, start, end) for p in parameters]
            y = self._cx.emit(Dense(), sources[start], *rows)
            made += self._cx.emit_all(Split((self._size,) * (end - start), 2), y) if end - start > 1 else [y]
        q, k, v = made
        return q, k, v

    def _rows(self, parameter: Value, start: int, end: int) -> Value:
        """The rows of some of the three projections."""
        if end - start == 3:
            return parameter
        return self._cx.emit(Slice((start * self._size,), (end * self._size,), (0,), (1,)), parameter)

    def outward(self, y: Value) -> Value:
        weight = self._parameter("out_proj.weight", self._size, self._size)
        return self._cx.emit(Dense(), y, weight, *self._vector("out_proj.bias", self._size))


def _integer(x: Value) -> int:
    features = x.shape[2]
    if not isinstance(features, int):
        raise ShapeError(f"multi_head_attention needs a known number of features (axis 2), found {x.type}")
    return features
