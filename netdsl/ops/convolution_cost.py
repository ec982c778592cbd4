"""Which ONNX form of a convolution, or of one of its gradients, is the fastest: an estimate from what each form does.

ONNX Runtime prepares a constant weight when it loads a model, and its Conv is then the best form. A training step's
weights are inputs: its Conv makes a column matrix per image and group and multiplies them one by one, which is slow
where maps are small or groups many. The other forms trade more arithmetic for fewer and larger matrix products.

The constants were fitted to `benchmarks/gradient_forms.py` (CPU). On a GPU the native operators are always taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, prod
from types import MappingProxyType
from typing import Any

from netdsl.ir.dims import Dim
from netdsl.ir.opdef import Emitter, Target
from netdsl.ir.types import DType, TensorType
from netdsl.ops.spatial import SamePads, same_amounts


@dataclass(frozen=True)
class Geometry:
    """A convolution of `[batch, channels, *size]` to `[batch, outputs, *out]`; `pads` are (begin, end) per axis.
    Estimates take symbolic sizes to be `assumed`. `block`: that of the target, where it may be used."""

    dtype: DType
    batch: Dim
    channels: int
    outputs: int
    groups: int
    size: tuple[Dim, ...]
    out: tuple[Dim, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[tuple[Dim, Dim], ...]
    assumed: int
    block: int = 0

    @property
    def rank(self) -> int:
        """The number of spatial axes."""
        return len(self.kernel)

    @cached_property
    def static(self) -> bool:
        """Whether the spatial sizes and the padding are known."""
        return all(isinstance(d, int) for d in (*self.size, *self.out, *(p for pair in self.pads for p in pair)))

    @property
    def depthwise(self) -> bool:
        """Whether each channel is convolved with one kernel of its own."""
        return self.groups == self.channels == self.outputs and self.groups > 1

    @property
    def pointwise(self) -> bool:
        """Whether each output position reads its own input position alone."""
        return set(self.kernel) == {1} and set(self.stride) == {1} and not self.padded

    @property
    def padded(self) -> bool:
        """Whether there is, or may be, padding."""
        return any(d != 0 for pair in self.pads for d in pair)

    @property
    def fixed_pads(self) -> tuple[tuple[int, int], ...] | None:
        """The padding, if it is known."""
        known = tuple((a, b) for a, b in self.pads if isinstance(a, int) and isinstance(b, int))
        return known if len(known) == self.rank else None

    @property
    def input(self) -> TensorType:
        return TensorType(self.dtype, (self.batch, self.channels, *self.size))

    @property
    def output(self) -> TensorType:
        return TensorType(self.dtype, (self.batch, self.outputs, *self.out))

    # Plain numbers for estimates ------------------------------------------------------------------------------

    @cached_property
    def images(self) -> int:
        return self._plain(self.batch)

    @cached_property
    def area(self) -> int:
        """Input positions."""
        return prod(self.sizes(self.size))

    @cached_property
    def places(self) -> int:
        """Output positions."""
        return prod(self.sizes(self.out))

    @property
    def taps(self) -> int:
        return prod(self.kernel)

    @property
    def inputs_per_group(self) -> int:
        return self.channels // self.groups

    @property
    def outputs_per_group(self) -> int:
        return self.outputs // self.groups

    def sizes(self, dims: Sequence[Dim]) -> list[int]:
        return [self._plain(d) for d in dims]

    def _plain(self, dim: Dim) -> int:
        return dim if isinstance(dim, int) else self.assumed


def geometry(
    x: TensorType,
    weight: TensorType,
    y: TensorType,
    stride: tuple[int, ...],
    padding: SamePads,
    dilation: tuple[int, ...],
    groups: int,
    target: Target,
) -> Geometry:
    """The geometry of a convolution by the types of its operands and result; symbolic sizes are estimated by the
    target's batch."""
    kernel = tuple(map(whole, weight.shape[2:]))
    pads: tuple[tuple[Dim, Dim], ...] = (
        same_amounts(x.shape[2:], kernel, stride, dilation) if padding == "same" else padding
    )
    channels, outputs = whole(x.shape[1]), whole(y.shape[1])
    sizes = x.shape[2:], y.shape[2:]
    assumed = target.batch, target.block
    return Geometry(x.dtype, x.shape[0], channels, outputs, groups, *sizes, kernel, stride, dilation, pads, *assumed)


def whole(dim: Dim) -> int:
    """A dimension that is always an integer: channels and kernels."""
    assert isinstance(dim, int)
    return dim


@dataclass(frozen=True)
class Work:
    """What a form does.

    `flops`: of matrix products, in whole vectors; `alone`: those of them that one thread does while the others have
    nothing left; `products`: how many of them; `packed`: numbers of their right operands, which ONNX Runtime copies
    first; `written`: numbers that products of few terms write; `transposed`: those of left operands that it
    transposes first, `tilted`: where their rows are short; `fetched`: numbers of weights that no cache holds;
    `moved`: numbers copied in rows; `scattered`: the rows; `gathered`, `picked`: the same of Gather; `mapped`:
    numbers that elementwise nodes write; `columns`: numbers of the column matrices within Conv, `lines`: the rows
    that they are copied in; `folded`, `folds`: the same of what ConvTranspose adds up, `spilled`: those of matrices
    that a cache does not hold; `calls`: images times groups, each a product of its own within Conv; `reordered`:
    numbers brought into the blocked layout or out of it; `sliding`: products and sums of depthwise convolutions
    there; `nodes`."""

    flops: float = 0
    alone: float = 0
    products: float = 0
    packed: float = 0
    written: float = 0
    transposed: float = 0
    fetched: float = 0
    tilted: float = 0
    gathered: float = 0
    picked: float = 0
    moved: float = 0
    scattered: float = 0
    mapped: float = 0
    columns: float = 0
    lines: float = 0
    folded: float = 0
    folds: float = 0
    spilled: float = 0
    calls: float = 0
    reordered: float = 0
    sliding: float = 0
    nodes: float = 0

    def __add__(self, other: Work) -> Work:
        return replace(self, **{f: getattr(self, f) + getattr(other, f) for f in SECONDS})


#: Seconds per unit of work, on one thread of a CPU.
SECONDS: Mapping[str, float] = {
    "flops": 1 / 190e9,
    "alone": 1 / 190e9,
    "products": 0.18e-6,
    "packed": 0.154e-9,
    "written": 0.15e-9,
    "transposed": 0.13e-9,
    "fetched": 0.14e-9,
    "tilted": 0.6e-9,
    "gathered": 0.35e-9,
    "picked": 3e-9,
    "moved": 0.32e-9,
    "scattered": 0.47e-9,
    "mapped": 0.275e-9,
    "columns": 0.063e-9,
    "lines": 2.8e-9,
    "folded": 0.08e-9,
    "folds": 2.8e-9,
    "spilled": 0.16e-9,
    "calls": 0.027e-6,
    "reordered": 0.28e-9,
    "sliding": 0.034e-9,
    "nodes": 1e-6,
}
CACHED = 1 << 18  #: numbers of a column matrix that a core's cache holds
HELD = 1 << 19  #: numbers that stay in a core's cache from one product to the next
PANEL = 128  #: columns and rows of a right operand that a matrix product copies at a time
LANES = 16  #: columns that a matrix product computes at a time


def products(m: int, n: int, k: int, count: float = 1) -> Work:
    """`count` products `[m, k] @ [k, n]`."""
    return Work(flops=2.0 * m * k * ceil(n / LANES) * LANES * count, products=count, packed=float(k) * n * count)


def pairs(m: int, n: int, k: int, count: float = 1) -> Work:
    """`count` products of `[m, k]` with the transpose of `[n, k]`, which is transposed as it is copied."""
    return products(m, n, k, count) + Work(packed=float(k) * n * count)


def weight_left(m: int, n: int, k: int, count: float = 1) -> Work:
    """`count` products whose left operand is a weight."""
    return products(m, n, k, count) + Work(fetched=_fetched(m, n, k) * count)


def turned_weight_left(m: int, n: int, k: int, count: float = 1) -> Work:
    """`count` products whose left operand is a weight that is stored as `[k, m]`: it is transposed for each part of the
    product. Where the weight is large, memory gives short pieces of long rows."""
    reading = Work(transposed=float(m) * k * _panels(n, k) * count, fetched=3 * _fetched(m, n, k) * count)
    return products(m, n, k, count) + reading


def _panels(n: int, k: int) -> int:
    """In how many parts a product `[…, k] @ [k, n]` goes through its left operand. Flat parts are wider."""
    wider = PANEL >> (k - 1).bit_length() if n >= k else 0
    return ceil(n / (PANEL * max(wider, 1)))


def _fetched(m: int, n: int, k: int) -> float:
    """Numbers of the left operand of a product that come from memory."""
    return float(m) * k * _panels(n, k) if m * k > HELD else 0


def copied(numbers: float, run: float) -> Work:
    """A copy of numbers in runs of a length: slices, transposes, padding, joining."""
    return Work(moved=numbers, scattered=numbers / max(run, 1), nodes=1)


def transposed_left(numbers: float) -> Work:
    """The left operands of small products that a Transpose of their last axes makes, which ONNX Runtime leaves to the
    products."""
    return Work(tilted=numbers)


def gathered(numbers: float, run: float) -> Work:
    """A Gather of rows of a length."""
    return Work(gathered=numbers, picked=numbers / max(run, 1), nodes=1)


def mapped(numbers: float, nodes: int = 1) -> Work:
    """Elementwise nodes that write so many numbers each."""
    return Work(mapped=numbers * nodes, nodes=nodes)


#: What ONNX Runtime's threads share. Copies, and what ConvTranspose adds up, one thread does alone.
SHARED = frozenset(
    {
        *("flops", "products", "packed", "written", "transposed", "tilted", "fetched", "gathered", "picked"),
        *("columns", "lines", "spilled", "calls", "reordered", "sliding"),
    }
)


def seconds(work: Work, target: Target) -> float:
    """The estimated time of a form."""
    total: float = sum(getattr(work, f) * s / (target.threads if f in SHARED else 1) for f, s in SECONDS.items())
    return total


@dataclass(frozen=True)
class Form:
    """One way to compute: whether it can, what it does, and how it is written. `emit(cx, geometry, *operands)`.

    `given`: by another quantity of the same convolution ("forward", "input"), the part of the work that this one need
    not do again if that one takes its form of the same name."""

    name: str
    applies: Callable[[Geometry], bool]
    work: Callable[[Geometry], Work]
    emit: Callable[..., str]
    given: Callable[[Geometry], Mapping[str, Work]] = lambda g: {}


ALONE: Mapping[str, Form] = MappingProxyType({})


def choose(forms: Sequence[Form], g: Geometry, target: Target, others: Mapping[str, Form] = ALONE) -> Form:
    """The form with the least estimated time; of equal ones, and on a GPU, the first that applies.

    `others`: the forms that other quantities of the convolution take, by their names in `Form.given`."""
    able = [f for f in forms if f.applies(g)]
    if target.device == "cuda":
        return able[0]

    def estimate(form: Form) -> float:
        same = (work for other, work in form.given(g).items() if other in others and others[other].name == form.name)
        return seconds(form.work(g), target) - sum(seconds(work, target) for work in same)

    return min(able, key=estimate)


def emit_sum(cx: Emitter, parts: Sequence[str]) -> str:
    """The sum of tensors of one shape."""
    total = parts[0]
    for part in parts[1:]:
        total = cx.emit("Add", total, part)
    return total


def window_attributes(g: Geometry) -> dict[str, Any]:
    """ONNX's attributes of a convolution with known padding."""
    pads = g.fixed_pads
    assert pads is not None
    return {
        "kernel_shape": list(g.kernel),
        "strides": list(g.stride),
        "dilations": list(g.dilation),
        "pads": [a for a, _ in pads] + [b for _, b in pads],
        "group": g.groups,
    }
