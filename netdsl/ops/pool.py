"""The window of pools: sizes, padding, ONNX attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Self

import numpy as np

from netdsl.ir.arguments import BOOL, PADDING, PER_AXIS, TENSOR, PaddingValue, Pads, Param
from netdsl.ir.dims import Dim, dim_max
from netdsl.ir.graph import Value
from netdsl.ir.opdef import Cost, LayerContext, OpError, Primitive
from netdsl.ir.reach import Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops.spatial import (
    SamePads,
    axes_of,
    explicit_pads,
    onnx_window,
    pad_spatial,
    same_amounts,
    spatial_rank,
    window_reach,
    window_sizes,
    windows,
)

WINDOW = (
    Param("x", TENSOR),
    Param("kernel", PER_AXIS),
    Param("stride", PER_AXIS, default_from="kernel"),
    Param("padding", PADDING, 0),
    Param("dilation", PER_AXIS, 1),
    Param("ceil", BOOL, False, doc="keep a last window that is not full"),
)


@dataclass(frozen=True)
class Pool(Primitive):
    """What pools share: a window that slides over the spatial axes of `[N, C, …]`, channel by channel."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: SamePads
    dilation: tuple[int, ...]
    ceil: bool = False

    @classmethod
    def call(
        cls,
        cx: LayerContext,
        x: Value,
        kernel: int | tuple[int, ...],
        stride: int | tuple[int, ...],
        padding: PaddingValue,
        dilation: int | tuple[int, ...],
        ceil: bool,
        **more: Any,
    ) -> Value | tuple[Value, ...]:
        outputs = cx.emit_all(cls.window(x.type, kernel, stride, padding, dilation, ceil, **more), x)
        return outputs[0] if len(outputs) == 1 else outputs

    @classmethod
    def window(
        cls,
        x: TensorType,
        kernel: int | tuple[int, ...],
        stride: int | tuple[int, ...],
        padding: PaddingValue,
        dilation: int | tuple[int, ...],
        ceil: bool,
        **more: Any,
    ) -> Self:
        """The operator for the arguments of a call. Raises OpError."""
        rank = spatial_rank(cls.name, x)
        sizes, strides = axes_of(cls.name, kernel, rank, "kernel"), axes_of(cls.name, stride, rank, "stride")
        dilations = axes_of(cls.name, dilation, rank, "dilation")
        pads = explicit_pads(cls.name, padding, x, sizes, strides, dilations)
        if pads != "same" and padding != "same":
            _check_padding(cls.name, pads, sizes, dilations)
        return cls(sizes, strides, pads, dilations, ceil and padding != "same", **more)

    def sizes(self, x: TensorType) -> tuple[Dim, ...]:
        """The output's spatial sizes."""
        return window_sizes(self.name, x, self.kernel, self.stride, self.padding, self.dilation, self.ceil)

    def infer(self, x: TensorType) -> TensorType | tuple[TensorType, ...]:
        spatial_rank(self.name, x)
        return x.with_shape((*x.shape[:2], *self.sizes(x)))

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        """A comparison or an addition for every tap but the first."""
        return Cost(other=outputs[0].size * (prod(self.kernel) - 1))

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return window_reach(self.kernel, self.stride, self.padding, self.dilation)

    def frame(self, x: TensorType) -> tuple[tuple[tuple[Dim, Dim], ...], tuple[tuple[Dim, Dim], ...]]:
        """(begin, end) per spatial axis: the padding asked for, and that which also fills the windows `ceil` adds."""
        pads: tuple[tuple[Dim, Dim], ...]
        pads = (
            same_amounts(x.shape[2:], self.kernel, self.stride, self.dilation)
            if self.padding == "same"
            else self.padding
        )
        if not self.ceil:
            return pads, pads
        full = []
        for i, size in enumerate(self.sizes(x)):
            needed = (size - 1) * self.stride[i] + (self.kernel[i] - 1) * self.dilation[i] + 1
            full.append((pads[i][0], dim_max(pads[i][1], needed - x.shape[2 + i] - pads[i][0])))
        return pads, tuple(full)

    def view(self, x: NDArrayAny, pads: Any, value: float) -> NDArrayAny:
        """Every window `[N, C, *out, *kernel]`, padding filled with `value`."""
        sizes: Any = self.sizes(TensorType(DType.float32, x.shape))
        found = windows(pad_spatial(x, pads, value), self.kernel, self.stride, self.dilation)
        return found[(slice(None), slice(None), *(slice(0, size) for size in sizes))]

    @property
    def taps(self) -> tuple[int, ...]:
        """The axes of `view` that run over a window."""
        return tuple(range(-len(self.kernel), 0))

    @property
    def fits(self) -> bool:
        """Whether the padding is known and smaller than the undilated kernel, as ONNX Runtime wants it."""
        return self.padding != "same" and all(max(p) < k for p, k in zip(self.padding, self.kernel, strict=True))

    def onnx(self, x: TensorType) -> dict[str, object]:
        """ONNX's attributes. `ceil` becomes padding where the sizes are known and the padding is below the kernel."""
        attributes = onnx_window(self.kernel, self.stride, self.padding, self.dilation)
        if self.ceil:
            full = self.frame(x)[1]
            known = all(isinstance(e, int) and e < k for (_, e), k in zip(full, self.kernel, strict=True))
            attributes["ceil_mode"] = int(not known)
            if known:
                attributes["pads"] = [p[0] for p in full] + [p[1] for p in full]
        return attributes


def _check_padding(op: str, pads: Pads, kernel: Sequence[int], dilation: Sequence[int]) -> None:
    for amount, size, step in zip(pads, kernel, dilation, strict=True):
        extent = (size - 1) * step + 1
        if max(amount) >= extent:
            raise OpError(
                f"{op}: a padding of {max(amount)} must be smaller than the kernel, {extent}: "
                "a window would hold nothing else",
                argument="padding",
                help="pad the tensor itself: pad(x, padding)",
            )


def no_pads(axes: Sequence[Any]) -> Pads:
    """No padding on as many axes."""
    return ((0, 0),) * len(axes)


def lowest(dtype: DType) -> float:
    """What the maximum of a window starts from."""
    if dtype.is_float:
        return -np.inf
    return 0 if dtype is DType.uint8 else -128


AnyPads = Sequence[tuple[Dim, Dim]]


def difference(full: AnyPads, pads: AnyPads) -> tuple[tuple[Dim, Dim], ...]:
    """What one padding has beyond another."""
    return tuple((a - c, b - d) for (a, b), (c, d) in zip(full, pads, strict=True))
