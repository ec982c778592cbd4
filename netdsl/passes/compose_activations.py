"""Recognises activations that are written out, and puts the one operator in their place.

    x * sigmoid(x)                                              =  silu(x)
    x * tanh(softplus(x))                                       =  mish(x)
    x * min(max(x + 3, 0), 6) / 6,  x * hard_sigmoid(x)         =  hard_swish(x)
    x/2 * (1 + erf(x / sqrt(2)))                                =  gelu(x)
    x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * x**3)))        =  gelu(x, approximate="tanh")

A product is taken apart into its factors and one number, so that the order in which it was written does not count.
Numbers must be those of the definition, rounded to the element type. What lies between must have no other reader: it
would have to be computed all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt
from typing import ClassVar

from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Primitive
from netdsl.ir.types import DType
from netdsl.ops.activation import Clip, HardSigmoid, HardSwish, Relu6
from netdsl.ops.arithmetic import Add, Div, Mul, Pow
from netdsl.ops.constant import Constant
from netdsl.ops.smooth import Gelu, Mish, Sigmoid, Silu, Softplus, Tanh
from netdsl.ops.unary import Erf
from netdsl.passes.base import Done, Peephole, Refused
from netdsl.passes.rewrite import Rewriter

MAX_FACTORS = 6  #: of a product that are looked at together
EPSILON = {DType.float64: 2**-52, DType.float32: 2**-23, DType.float16: 2**-10, DType.bfloat16: 2**-7}


@dataclass(frozen=True)
class Product:
    """`number * factors[0] * …`."""

    number: float
    factors: tuple[Value, ...]


@dataclass(frozen=True)
class ComposeActivations(Peephole[tuple[Primitive, Value]]):
    name: ClassVar[str] = "compose-activations"
    targets: ClassVar[tuple[type[Primitive], ...]] = (Mul, Div)

    def match(self, rw: Rewriter, node: Node) -> tuple[Primitive, Value] | Refused | None:
        if not node.output.dtype.is_float:
            return None
        product = product_of(rw, node)
        if product is None or len(product.factors) != 2:
            return None
        for x, other in (product.factors, product.factors[::-1]):
            op = _activation(rw, product.number, x, other)
            if op is not None and x.type == node.output.type:
                return op, x
        return None

    def rewrite(self, rw: Rewriter, node: Node, parts: tuple[Primitive, Value]) -> Done:
        op, x = parts
        return Done([rw.emit(op, x, path=node.path, place=node.place)], f"is {op.name}, written out")


def _activation(rw: Rewriter, number: float, x: Value, other: Value) -> Primitive | None:
    """The activation that is `number * x * other`, where `other` is a function of x."""
    maker = inner(rw, other)
    if maker is None:
        return None
    match maker.op:
        case Sigmoid() if _near(number, 1, x) and maker.inputs[0] is x:
            return Silu()
        case Tanh() if _near(number, 1, x) and _is(rw, maker.inputs[0], Softplus, x):
            return Mish()
        case HardSigmoid(alpha=a, beta=b) if _near(number, 1, x) and _near(a, 1 / 6, x) and b == 0.5:
            return HardSwish() if maker.inputs[0] is x else None
        case Relu6() | Clip(min=0, max=6) if _near(number, 1 / 6, x) and _plus(rw, maker.inputs[0], 3) is x:
            return HardSwish()
        case Add() if _near(number, 0.5, x):
            return _gelu(rw, x, _plus(rw, other, 1))
        case _:
            return None


def _gelu(rw: Rewriter, x: Value, bend: Value | None) -> Gelu | None:
    maker = None if bend is None else inner(rw, bend)
    if maker is None or not isinstance(maker.op, Erf | Tanh):
        return None
    inside = product_of(rw, rw.producer(maker.inputs[0]))
    if inside is None or not rw.single_use(maker.inputs[0]) or len(inside.factors) != 1:
        return None
    (factor,) = inside.factors
    if isinstance(maker.op, Erf):
        return Gelu() if factor is x and _near(inside.number, sqrt(0.5), x) else None
    return Gelu("tanh") if _near(inside.number, sqrt(2 / pi), x) and _bent(rw, factor, x) else None


def _bent(rw: Rewriter, value: Value, x: Value) -> bool:
    """Whether a value is `x + 0.044715 * x**3`."""
    maker = inner(rw, value)
    if maker is None or not isinstance(maker.op, Add) or x not in maker.inputs:
        return False
    other = maker.inputs[1] if maker.inputs[0] is x else maker.inputs[0]
    cube = product_of(rw, inner(rw, other))
    if cube is None or not _near(cube.number, 0.044715, x):
        return False
    if len(cube.factors) == 3:
        return all(f is x for f in cube.factors)
    power = inner(rw, cube.factors[0]) if len(cube.factors) == 1 else None
    if power is None or not isinstance(power.op, Pow):
        return False
    return power.inputs[0] is x and number_of(rw, power.inputs[1]) == 3


def product_of(rw: Rewriter, node: Node | None) -> Product | None:
    """A product, or quotient by a number, taken apart through the factors that nothing else reads."""
    if node is None or not isinstance(node.op, Mul | Div):
        return None
    number, factors, stack = 1.0, [], _factors(rw, node)
    while stack:
        value, inverse = stack.pop()
        constant = number_of(rw, value)
        if constant is not None:
            if inverse and constant == 0:
                return None
            number = number / constant if inverse else number * constant
        elif inverse:
            return None
        elif (maker := inner(rw, value)) is not None and isinstance(maker.op, Mul | Div):
            stack.extend(_factors(rw, maker))
        else:
            factors.append(value)
        if len(factors) + len(stack) > MAX_FACTORS:
            return None
    return Product(number, tuple(factors))


def _factors(rw: Rewriter, node: Node) -> list[tuple[Value, bool]]:
    """The operands from last to first, each with whether it divides; as a whole where it divides by no number."""
    a, b = node.inputs
    return [(b, isinstance(node.op, Div)), (a, False)]


def inner(rw: Rewriter, value: Value) -> Node | None:
    """The node that makes a value for one reader."""
    return rw.producer(value) if rw.single_use(value) else None


def number_of(rw: Rewriter, value: Value) -> float | None:
    """The number that a constant holds in every place, if it is a literal."""
    maker = rw.producer(value)
    if maker is None or not isinstance(maker.op, Constant) or maker.op.value.data.size != 1:
        return None
    return float(maker.op.value.data.reshape(-1)[0])


def _plus(rw: Rewriter, value: Value, number: float) -> Value | None:
    """What a number is added to; None where the value is no such sum."""
    maker = inner(rw, value)
    if maker is None or not isinstance(maker.op, Add):
        return None
    for a, b in (maker.inputs, maker.inputs[::-1]):
        if number_of(rw, b) == number:
            return a
    return None


def _is(rw: Rewriter, value: Value, kind: type[Primitive], x: Value) -> bool:
    """Whether a value is a function of x that nothing else reads."""
    maker = inner(rw, value)
    return maker is not None and isinstance(maker.op, kind) and maker.inputs[0] is x


def _near(number: float, wanted: float, x: Value) -> bool:
    """Whether a number is the one wanted, rounded (some operations deep) to the element type of x."""
    return abs(number - wanted) <= 2 * EPSILON[x.dtype] * abs(wanted)
