"""Random numbers that depend on a seed and a position alone, in standard operators.

ONNX's own RandomUniform takes its seed as an attribute, so a graph would draw the same numbers in every step. This
one is a hash of the element's index under two keys from (seed, stream): multiply, add the high bits, twice over, as
in MurmurHash3's finaliser (Appleby 2011) with additions in place of exclusive-ors, which opset 17 does not have.
int32 arithmetic wraps.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from netdsl.ir.dims import Dim
from netdsl.ir.graph import Node
from netdsl.ir.opdef import Emitter, Primitive
from netdsl.ir.types import DType, NDArrayAny, TensorType

_ROUNDS = ((0x85EBCA6B, 13), (0xC2B2AE35, 16), (0x9E3779B1, 15))
_STREAM = 0x632BE5AB


def _signed(value: int) -> int:
    return (value & 0xFFFFFFFF) - ((value & 0x80000000) << 1)


def _mix(h: NDArray[np.uint32], rounds: tuple[tuple[int, int], ...] = _ROUNDS) -> NDArray[np.uint32]:
    for factor, shift in rounds:
        h = h * np.uint32(factor)
        h = h + (h >> np.uint32(shift))
    return h


@dataclass(frozen=True)
class UniformRandom(Primitive):
    """Uniform float32 numbers in [0, 1) of a shape, from an int64 seed: other ones for each `stream`."""

    shape: tuple[Dim, ...]
    stream: int

    name: ClassVar[str] = "uniform_random"
    family: ClassVar[str] = "internal"
    foldable: ClassVar[bool] = False
    differentiable: ClassVar[bool] = False

    def infer(self, seed: TensorType) -> TensorType:
        return TensorType(DType.float32, self.shape)

    def evaluate(self, seed: NDArrayAny) -> NDArrayAny:
        start = np.asarray(int(seed) + _STREAM * (self.stream + 1) & 0xFFFFFFFF, np.uint32).reshape(1)
        key = _mix(start)
        sizes = tuple(int(d) for d in self.shape)  # type: ignore[arg-type]  # bound: all are integers
        index = np.arange(prod(sizes), dtype=np.uint32)
        bits = _mix(_mix(index + key, _ROUNDS[:1]) + _mix(key + np.uint32(_STREAM)), _ROUNDS[1:])
        return ((bits >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)).reshape(sizes)

    def lower(self, cx: Emitter, node: Node, seed: str) -> str:
        offset = cx.scalar(_signed(_STREAM * (self.stream + 1)), DType.int32)
        key = self._mixed(cx, cx.emit("Add", cx.emit("Cast", seed, to=cx.onnx_type(DType.int32)), offset))
        second = self._mixed(cx, cx.emit("Add", key, cx.scalar(_signed(_STREAM), DType.int32)))
        shape = cx.shape(self.shape)
        count = cx.emit("ReduceProd", shape, keepdims=0)
        index = cx.emit("Range", cx.scalar(0, DType.int64), count, cx.scalar(1, DType.int64))
        first = cx.emit("Add", cx.emit("Cast", index, to=cx.onnx_type(DType.int32)), key)
        bits = self._mixed(cx, cx.emit("Add", self._mixed(cx, first, _ROUNDS[:1]), second), _ROUNDS[1:])
        high = cx.emit("Cast", self._shifted(cx, bits, 8), to=cx.onnx_type(DType.float32))
        uniform = cx.emit("Mul", high, cx.scalar(2.0**-24, DType.float32))
        return cx.emit("Reshape", uniform, shape)

    def _mixed(self, cx: Emitter, h: str, rounds: tuple[tuple[int, int], ...] = _ROUNDS) -> str:
        for factor, shift in rounds:
            h = cx.emit("Mul", h, cx.scalar(_signed(factor), DType.int32))
            h = cx.emit("Add", h, cx.emit("Cast", self._shifted(cx, h, shift), to=cx.onnx_type(DType.int32)))
        return h

    @staticmethod
    def _shifted(cx: Emitter, h: str, bits: int) -> str:
        """A logical shift to the right, as uint32 (ONNX shifts no signed integers)."""
        unsigned = cx.emit("Cast", h, to=13)  # TensorProto.UINT32, which is no type of the language
        return cx.emit("BitShift", unsigned, cx.array(np.asarray(bits, np.uint32)), direction="RIGHT")
