"""Scaled dot-product attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.arguments import BOOL, POSITIVE, TENSOR, Float, Param
from netdsl.ir.dims import Dim, Expr, decide
from netdsl.ir.graph import Node, Value
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
from netdsl.ir.types import DType, NDArrayAny, TensorType, shape_text
from netdsl.ops import gradient_tools as g
from netdsl.ops.dense import MatMul
from netdsl.ops.masked_softmax import (
    CausalMask,
    MaskedSoftmax,
    emit_causal_mask,
    emit_masked_softmax,
    masked_softmax,
)
from netdsl.ops.optional import OPTIONAL_TENSOR
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.regularisation import dropped
from netdsl.ops.shape import emit_reshape
from netdsl.ops.smooth import Softmax
from netdsl.ops.tape import formula_gradient

#: arithmetic operations per score besides the products: the scale, and a softmax
_PER_SCORE = 1 + Softmax.flops_per_element

MASK_DOC = (
    "`[L, S]`, `[N, L, S]` or `[N, heads, L, S]`, any of them 1: bool, true where attention may go, or floats that are "
    "added to the scores"
)


@dataclass(frozen=True)
class Attention(Primitive):
    """Scaled dot-product attention: `softmax(q @ k.T * scale) @ v` in each of `heads` heads.

    `q` is `[N, L, E]`, `k` `[N, S, E]`, `v` `[N, S, F]`; the result is `[N, L, F]`. The features are split into `heads`
    equal parts inside, the first part for the first head, and joined again. `causal`: position `i` sees the positions
    up to `i` alone. A position that may attend to nothing gets zeros. Counts both products in full, causal or not, and
    5 operations for each score.
    """

    heads: int
    causal: bool = False
    scale: float | None = None
    dropout: float = 0.0  #: of the shares, in training

    name: ClassVar[str] = "attention"
    family: ClassVar[str] = "attention"
    reference: ClassVar[str] = "Vaswani et al. 2017 (arXiv:1706.03762); ONNX Attention"
    signature: ClassVar[tuple[Param, ...]] = (
        Param("q", TENSOR),
        Param("k", TENSOR),
        Param("v", TENSOR),
        Param("heads", POSITIVE),
        Param("causal", BOOL, False),
        Param("mask", OPTIONAL_TENSOR, None, doc=MASK_DOC),
        Param("scale", Float("number above 0 or none", above=0, optional=True), None, doc="none: 1/sqrt(E / heads)"),
    )

    @classmethod
    def call(
        cls,
        cx: LayerContext,
        q: Value,
        k: Value,
        v: Value,
        heads: int,
        causal: bool,
        mask: Value | None,
        scale: float | None,
    ) -> Value:
        return attend(cx, cls(heads, causal, scale), q, k, v, mask)

    @property
    def repeatable(self) -> bool:  # type: ignore[override]  # it depends on the field
        return self.dropout == 0

    def infer(self, q: TensorType, k: TensorType, v: TensorType, mask: TensorType | None = None) -> TensorType:
        same_dtype(self.name, q, k, v)
        for name, x in (("q", q), ("k", k), ("v", v)):
            check_features(self.name, name, x, self.heads)
            if decide("==", x.shape[0], q.shape[0]) is not True:
                raise ShapeError(f"{self.name}: q {q} and {name} {x} need the same number of items (axis 0)")
        if q.shape[2] != k.shape[2]:
            raise ShapeError(f"{self.name}: q {q} and k {k} need the same number of features (axis 2)", argument="k")
        if decide("==", k.shape[1], v.shape[1]) is not True:
            raise ShapeError(f"{self.name}: k {k} and v {v} need the same length (axis 1)", argument="v")
        if mask is not None:
            self.check_mask(q, k, mask, (2, 4))
        return q.with_shape((*q.shape[:2], v.shape[2]))

    def check_mask(self, q: TensorType, k: TensorType, mask: TensorType, ranks: Sequence[int]) -> None:
        """Raises ShapeError for a mask that does not fit."""
        if mask.dtype not in (DType.bool, q.dtype):
            message = f"{self.name} needs a mask of bool or {q.dtype}, found {mask}"
            raise ShapeError(message, argument="mask", help="compare it: mask != 0")
        scores = (q.shape[0], self.heads, q.shape[1], k.shape[1])
        wanted = (scores[0], *scores[2:]) if mask.rank == 3 else scores[4 - mask.rank :]
        if mask.rank in ranks and all(d == 1 or decide("==", d, s) for d, s in zip(mask.shape, wanted, strict=True)):
            return
        raise ShapeError(
            f"{self.name}: the mask {mask} does not fit the scores {shape_text(scores)} (items, heads, queries, keys)",
            argument="mask",
            help=(
                "a mask is [L, S] for all items, [N, L, S] for each, or [N, heads, L, S]; any of these may be 1",
                "of keys alone, [N, S], it is unsqueeze(mask, 1)",
            ),
        )

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        q, k, v, *mask = inputs
        pairs = q.shape[0] * q.shape[1] * k.shape[1]
        added = bool(mask) and mask[0].dtype.is_float
        return Cost(macs=pairs * (q.shape[2] + v.shape[2]), other=pairs * self.heads * (_PER_SCORE + added))

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE

    def _scale(self, q: TensorType) -> float:
        features = q.shape[2]
        assert isinstance(features, int)
        return (features // self.heads) ** -0.5 if self.scale is None else self.scale

    # NumPy ------------------------------------------------------------------------------------------------------

    def evaluate(self, q: NDArrayAny, k: NDArrayAny, v: NDArrayAny, mask: NDArrayAny | None = None) -> NDArrayAny:
        queries, keys, values = (self._cut(wide(x)) for x in (q, k, v))
        scores = queries @ keys.swapaxes(2, 3) * queries.dtype.type(self._scale(TensorType(DType.float32, q.shape)))
        allowed: Any = None
        if mask is not None and mask.dtype == np.bool_:
            allowed = mask
        elif mask is not None:
            scores = scores + wide(mask)
        if self.causal:
            causal = np.tri(q.shape[1], k.shape[1], dtype=np.bool_)
            allowed = causal if allowed is None else allowed & causal
        y = masked_softmax(scores, allowed) @ values
        return like(y.transpose(0, 2, 1, 3).reshape(*q.shape[:2], v.shape[2]), q)

    def _cut(self, x: Any) -> Any:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(0, 2, 1, 3)

    # ONNX -------------------------------------------------------------------------------------------------------

    @runs_in_float32(DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, q: str, k: str, v: str, mask: str = "") -> str:
        types = [x.type for x in node.inputs]
        dtype, queries, keys = types[0].dtype, types[0].shape[1], types[1].shape[1]
        if cx.opset < 23 or dtype is DType.float64:  # float64 would be computed with float32's precision
            return self._decomposed(cx, types, q, k, v, mask)
        if mask and types[3].shape[-2:] != (queries, keys):  # ONNX Runtime broadcasts items and heads alone
            mask = cx.emit("Expand", mask, cx.shape((*[1] * (types[3].rank - 2), queries, keys)))
        heads = {"q_num_heads": self.heads, "kv_num_heads": self.heads}
        operands = [q, k, v, mask] if mask else [q, k, v]
        return cx.emit("Attention", *operands, **heads, is_causal=int(self.causal), scale=self.scale)

    def _decomposed(self, cx: Emitter, types: Sequence[TensorType], q: str, k: str, v: str, mask: str) -> str:
        dtype = types[0].dtype
        q = cx.emit("Mul", q, cx.scalar(self._scale(types[0]), dtype))
        queries, keys, values = (
            cx.emit("Transpose", emit_reshape(cx, x, t.shape, self._split(t)), perm=perm)
            for x, t, perm in zip((q, k, v), types, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=False)
        )
        scores = cx.emit("MatMul", queries, keys)
        wider = DType.float32 if dtype is DType.float16 else dtype
        if wider is not dtype:
            scores = cx.emit("Cast", scores, to=cx.onnx_type(wider))
        shares = self._emit_shares(cx, wider, types, scores, mask)
        if wider is not dtype:
            shares = cx.emit("Cast", shares, to=cx.onnx_type(dtype))
        y = cx.emit("Transpose", cx.emit("MatMul", shares, values), perm=[0, 2, 1, 3])
        whole = (*types[0].shape[:2], types[2].shape[2])
        return emit_reshape(cx, y, (*types[0].shape[:2], *self._split(types[2])[2:]), whole)

    def _emit_shares(self, cx: Emitter, dtype: DType, types: Sequence[TensorType], scores: str, mask: str) -> str:
        allowed = emit_causal_mask(cx, types[0].shape[1], types[1].shape[1]) if self.causal else ""
        if mask:
            may = mask
            if types[3].dtype is not DType.bool:
                mask = mask if types[3].dtype is dtype else cx.emit("Cast", mask, to=cx.onnx_type(dtype))
                scores = cx.emit("Add", scores, mask)
                may = cx.emit("Greater", mask, cx.scalar(-np.inf, dtype))
            allowed = cx.emit("And", allowed, may) if allowed else may
        if not allowed:
            return cx.emit("Softmax", scores, axis=-1)
        return emit_masked_softmax(cx, dtype, scores, allowed)

    def _split(self, x: TensorType) -> tuple[Dim, ...]:
        """The shape with the features cut into heads."""
        features = x.shape[2]
        assert isinstance(features, int)
        return (*x.shape[:2], self.heads, features // self.heads)

    # Training ---------------------------------------------------------------------------------------------------

    def training(self, cx: TrainingContext, node: Node) -> tuple[Value, ...] | None:
        """By operators of the graph, so that the shares are kept for the gradient and not computed again."""
        return (self.formula(cx, *node.inputs, drop=partial(dropped, cx, rate=self.dropout)),)

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        return formula_gradient(cx, node, self.formula, dy)

    def formula(
        self,
        cx: GradientContext,
        q: Value,
        k: Value,
        v: Value,
        *mask: Value,
        drop: Callable[[Value], Value] = lambda shares: shares,
    ) -> Value:
        """The attention in operators that have gradients; `drop` is applied to the shares."""
        queries, keys, values = (
            g.transpose(cx, g.reshape(cx, x, self._split(x.type)), perm)
            for x, perm in ((q, (0, 2, 1, 3)), (k, (0, 2, 3, 1)), (v, (0, 2, 1, 3)))
        )
        scaled = g.mul(cx, queries, self._scale(q.type))
        shares = self._shares(cx, cx.emit(MatMul(), scaled, keys), *mask)
        y = cx.emit(MatMul(), drop(shares), values)
        return g.reshape(cx, g.transpose(cx, y, (0, 2, 1, 3)), (*q.shape[:2], v.shape[2]))

    def _shares(self, cx: GradientContext, scores: Value, mask: Value | None = None) -> Value:
        allowed = None
        if mask is not None and mask.dtype is DType.bool:
            allowed = mask
        elif mask is not None:
            scores = g.add(cx, scores, mask)
            allowed = g.compare(cx, ">", mask, -np.inf)
        if self.causal:
            causal = cx.emit(CausalMask(*scores.shape[2:]))
            allowed = causal if allowed is None else g.where(cx, allowed, causal, False)
        if allowed is None:
            return cx.emit(Softmax(3), scores)
        return cx.emit(MaskedSoftmax(), scores, allowed)


def check_features(op: str, name: str, x: TensorType, heads: int) -> None:
    """Raises ShapeError unless `x` is `[N, L, E]` floats whose features divide by the heads."""
    require_float(op, x)
    if x.rank != 3:
        raise ShapeError(
            f"{op} needs {name} of rank 3, [items, length, features], found {x}",
            argument=name,
            help="the heads are split inside: give [N, L, heads * size]" if x.rank == 4 else (),
        )
    features = x.shape[2]
    if isinstance(features, Expr):
        raise ShapeError(f"{op} needs a known number of features (axis 2), found {x}", argument=name)
    if features % heads:
        raise ShapeError(
            f"{op}: the {features} features of {name} {x} do not divide by {heads} heads", argument="heads"
        )


def attend(cx: LayerContext, op: Attention, q: Value, k: Value, v: Value, mask: Value | None) -> Value:
    """Emits the attention. A mask `[N, L, S]` gets an axis for the heads. Raises ShapeError."""
    op.infer(q.type, k.type, v.type)
    if mask is None:
        return cx.emit(op, q, k, v)
    op.check_mask(q.type, k.type, mask.type, (2, 3, 4))
    return cx.emit(op, q, k, v, g.unsqueeze(cx, mask, [1]) if mask.rank == 3 else mask)
