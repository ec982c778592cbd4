"""Recognises normalisations that are written out, and puts the one operator in their place.

    (x - mean(x)) / sqrt(mean((x - mean(x))**2) + epsilon)  =  layer_norm(x)       over the last axes
                                                            =  instance_norm(x)    over all axes but the first two
    x / sqrt(mean(x**2) + epsilon)                          =  rms_norm(x)         over the last axes
    reshape(instance_norm(reshape(x, [N, G, …])), x.shape)  =  group_norm(x, G)

with unit weight and zero bias, into which `FoldNorm` puts what follows. The variance may be `variance(x,
correction=0)`, the division a product with `rsqrt`. What lies between must have no other reader. Instance and group
norm are left alone in float64, for which runtimes have no kernel: they compute them in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Primitive
from netdsl.ir.types import DType
from netdsl.ops.arithmetic import Add, Div, Mul, Pow, Sub
from netdsl.ops.constant import Constant
from netdsl.ops.group_norm import GroupNorm, InstanceNorm
from netdsl.ops.normalisation import LayerNorm, RmsNorm
from netdsl.ops.reduction import Mean, Variance
from netdsl.ops.shape import Expand, Reshape
from netdsl.ops.unary import Rsqrt, Sqrt
from netdsl.passes.algebra import Algebra
from netdsl.passes.base import Done, Peephole, Refused
from netdsl.passes.compose_activations import inner, number_of
from netdsl.passes.rewrite import Rewriter


@dataclass(frozen=True)
class Norm:
    """The operator, what it normalises, and the shape of its weight and bias (None: it has none)."""

    op: LayerNorm | RmsNorm | InstanceNorm
    x: Value
    sizes: tuple[int, ...] | None


@dataclass(frozen=True)
class ComposeNorms(Peephole[Norm]):
    name: ClassVar[str] = "compose-norms"
    targets: ClassVar[tuple[type[Primitive], ...]] = (Mul, Div)

    def match(self, rw: Rewriter, node: Node) -> Norm | Refused | None:
        pairs = [node.inputs] if isinstance(node.op, Div) else [node.inputs, node.inputs[::-1]]
        for value, root in pairs:
            found = _spread(rw, root, Sqrt if isinstance(node.op, Div) else Rsqrt)
            if found is not None and value.type == node.output.type:
                return _norm(rw, value, *found)
        return None

    def rewrite(self, rw: Rewriter, node: Node, parts: Norm) -> Done:
        operands = [parts.x]
        if parts.sizes is not None:
            names = ("weight",) if isinstance(parts.op, RmsNorm) else ("weight", "bias")
            operands += [_filled(rw, node, name, parts.sizes) for name in names]
        value = rw.emit(parts.op, *operands, path=node.path, place=node.place)
        return Done([value], f"is {parts.op.name}, written out")


def _filled(rw: Rewriter, node: Node, name: str, sizes: Sequence[int]) -> Value:
    """A weight of ones or a bias of zeros."""
    alg = Algebra(rw, f"{node.path}.{name}", node.place)
    return alg.expand(alg.number(float(name == "weight"), node.output.dtype), sizes)


def _spread(rw: Rewriter, value: Value, root: type[Primitive]) -> tuple[Node, float] | None:
    """The mean of squares, or variance, whose (reciprocal) root a value is, and epsilon."""
    maker = inner(rw, value)
    total = inner(rw, maker.inputs[0]) if maker is not None and isinstance(maker.op, root) else None
    if total is None or not isinstance(total.op, Add):
        return None
    for a, b in (total.inputs, total.inputs[::-1]):
        spread, epsilon = inner(rw, a), number_of(rw, b)
        if epsilon is not None and spread is not None and isinstance(spread.op, Mean | Variance) and spread.op.keep:
            return spread, epsilon
    return None


def _norm(rw: Rewriter, value: Value, spread: Node, epsilon: float) -> Norm | None:
    assert isinstance(spread.op, Mean | Variance)
    axes, source = tuple(sorted(a % value.rank for a in spread.op.axes)), spread.inputs[0]
    if isinstance(spread.op, Variance):
        x = _centred(rw, value, axes) if spread.op.correction == 0 and rw.uses(value) == 1 else None
        return _choose(x, axes, epsilon) if x is source else None
    square = inner(rw, source)
    reads = 0 if square is None else _reads_in_square(rw, square, value)
    if not reads:
        return None
    if rw.uses(value) == reads + 1 and (x := _centred(rw, value, axes)) is not None:
        return _choose(x, axes, epsilon)
    sizes = _static([value.shape[a] for a in axes])
    return Norm(RmsNorm(axes, epsilon), value, sizes) if sizes and _trailing(axes, value) else None


def _reads_in_square(rw: Rewriter, square: Node, value: Value) -> int:
    """How often `value * value` or `value ** 2` reads it; 0 for anything else."""
    match square.op:
        case Mul() if all(v is value for v in square.inputs):
            return 2
        case Pow() if square.inputs[0] is value and number_of(rw, square.inputs[1]) == 2:
            return 1
        case _:
            return 0


def _centred(rw: Rewriter, value: Value, axes: tuple[int, ...]) -> Value | None:
    """The x of `x - mean(x)` over these axes."""
    maker = rw.producer(value)
    if maker is None or not isinstance(maker.op, Sub):
        return None
    x, mean = maker.inputs[0], inner(rw, maker.inputs[1])
    if mean is None or not isinstance(mean.op, Mean) or not mean.op.keep or mean.inputs[0] is not x:
        return None
    return x if tuple(sorted(a % x.rank for a in mean.op.axes)) == axes else None


def _choose(x: Value | None, axes: tuple[int, ...], epsilon: float) -> Norm | None:
    """Layer norm where the last axes are known; instance norm over all positions."""
    if x is None or not _trailing(axes, x):
        return None
    spatial = axes == tuple(range(2, x.rank)) and isinstance(x.shape[1], int)
    sizes = _static([x.shape[a] for a in axes])
    if spatial and (x.rank > 3 or not sizes):
        return Norm(InstanceNorm(epsilon), x, None) if x.dtype is not DType.float64 else None
    return Norm(LayerNorm(axes, epsilon), x, sizes) if sizes else None


def _trailing(axes: tuple[int, ...], x: Value) -> bool:
    return axes == tuple(range(x.rank - len(axes), x.rank))


def _static(shape: Sequence[object]) -> tuple[int, ...] | None:
    sizes = tuple(d for d in shape if isinstance(d, int))
    return sizes if len(sizes) == len(shape) and sizes else None


@dataclass(frozen=True)
class ComposeGroupNorm(Peephole[tuple[GroupNorm, Value]]):
    name: ClassVar[str] = "compose-group-norm"
    after: ClassVar[tuple[str, ...]] = ("compose-norms",)
    targets: ClassVar[tuple[type[Primitive], ...]] = (Reshape,)

    def match(self, rw: Rewriter, node: Node) -> tuple[GroupNorm, Value] | Refused | None:
        norm = inner(rw, node.inputs[0])
        if norm is None or not isinstance(norm.op, LayerNorm | InstanceNorm) or not _over_positions(norm):
            return None
        first = inner(rw, norm.inputs[0])
        if first is None or not isinstance(first.op, Reshape) or not _is_unit(rw, norm):
            return None
        x, groups = first.inputs[0], norm.inputs[0].shape[1]
        if x.type != node.output.type or x.rank < 3 or x.shape[0] != norm.inputs[0].shape[0]:
            return None
        channels = x.shape[1]
        if not isinstance(groups, int) or not isinstance(channels, int) or channels % groups:
            return None
        if x.dtype is DType.float64 and isinstance(norm.op, LayerNorm):
            return None
        return GroupNorm(groups, norm.op.epsilon), x

    def rewrite(self, rw: Rewriter, node: Node, parts: tuple[GroupNorm, Value]) -> Done:
        op, x = parts
        assert isinstance(x.shape[1], int)
        units = [_filled(rw, node, name, (x.shape[1],)) for name in ("weight", "bias")]
        return Done([rw.emit(op, x, *units, path=node.path, place=node.place)], "is group_norm, written out")


def _over_positions(norm: Node) -> bool:
    """Whether a norm takes all axes but the first two."""
    rank = norm.inputs[0].rank
    return rank > 2 and (isinstance(norm.op, InstanceNorm) or getattr(norm.op, "axes", ()) == tuple(range(2, rank)))


def _is_unit(rw: Rewriter, norm: Node) -> bool:
    """Whether a norm's weight is 1 and its bias 0 everywhere."""
    return all(_filler(rw, v) == wanted for v, wanted in zip(norm.inputs[1:], (1, 0), strict=False))


def _filler(rw: Rewriter, value: Value) -> float | None:
    """The number that fills a literal, which may be expanded."""
    maker = rw.producer(value)
    if maker is not None and isinstance(maker.op, Expand):
        return _filler(rw, maker.inputs[0])
    if maker is None or not isinstance(maker.op, Constant):
        return None
    data = maker.op.value.data.reshape(-1)
    return float(data[0]) if data.size and bool((data == data[0]).all()) else None
