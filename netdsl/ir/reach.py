"""How far one element of a node's output sees into its input, axis by axis: what receptive fields are summed from."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Axis:
    """Output position `i` of one spatial axis sees `size` input positions that begin at `i * stride + offset`.

    `stride` is below 1 where the axis grows (transposed convolution, resize).
    """

    size: int = 1
    stride: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True)
class Reach:
    """`axes` for the spatial axes in order; `whole` if every output sees the entire input; neither: itself."""

    axes: tuple[Axis, ...] = ()
    whole: bool = False


POINTWISE = Reach()
WHOLE = Reach(whole=True)
