"""Random numbers that depend on a seed and a position alone, in standard operators.

ONNX's own RandomUniform takes its seed as an attribute, so a graph would draw the same numbers in every step. This one
hashes: the axes are halved into rows and columns, every row and every column gets a strong 32-bit hash of its index
under a key from (seed, stream), and an element is one more round over the sum of its two. So the strong rounds, of many
small operators, run over rows + columns elements only.

A round is RC6's quadratic `h * (2h + 1)`, in which every bit depends on all lower ones (Rivest et al. 1998, "The RC6
block cipher"), and a rotation by 16. int32 arithmetic wraps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from netdsl.ir.dims import Dim, evaluate, product
from netdsl.ir.graph import Node
from netdsl.ir.opdef import Emitter, Primitive
from netdsl.ir.types import DType, NDArrayAny, TensorType

_ROUNDS = 3
_SEED, _STREAM = 0x9E3779B1, 0x632BE5AB  # odd, so that no seed or stream is lost
_BITS = 24  # of a float32's mantissa
_UINT32 = 12  # TensorProto.UINT32, which is no type of the language


def _signed(value: int) -> int:
    return (value & 0xFFFFFFFF) - ((value & 0x80000000) << 1)


def _hash(index: NDArray[np.uint32], key: NDArray[np.uint32]) -> NDArray[np.uint32]:
    h = index + key
    for _ in range(_ROUNDS):
        h = h * (h * np.uint32(2) + np.uint32(1))
        h = h * np.uint32(1 << 16) + (h >> np.uint32(16)) + key
    return h


@dataclass(frozen=True)
class UniformRandom(Primitive):
    """Uniform float32 numbers in [0, 1) of a shape, multiples of 2^-24, from an int64 seed, of which the low 32 bits
    count: other ones for each `stream`."""

    shape: tuple[Dim, ...]
    stream: int

    name: ClassVar[str] = "uniform_random"
    family: ClassVar[str] = "internal"
    foldable: ClassVar[bool] = False
    differentiable: ClassVar[bool] = False

    def infer(self, seed: TensorType) -> TensorType:
        return TensorType(DType.float32, self.shape)

    def _table(self) -> tuple[Dim, Dim]:
        """Rows and columns."""
        half = (len(self.shape) + 1) // 2
        return product(self.shape[:half]), product(self.shape[half:])

    def evaluate(self, seed: NDArrayAny) -> NDArrayAny:
        rows, columns = (evaluate(d, {}) for d in self._table())
        key = np.asarray(int(seed) * _SEED + self.stream * _STREAM & 0xFFFFFFFF, np.uint32).reshape(1)
        h = _hash(np.arange(rows + columns, dtype=np.uint32), key)
        total = h[:rows, None] + h[None, rows:]
        bits = total * (total * np.uint32(2) + np.uint32(1)) >> np.uint32(32 - _BITS)
        numbers = bits.astype(np.float32) * np.float32(2.0**-_BITS)
        return numbers.reshape([evaluate(d, {}) for d in self.shape])

    def lower(self, cx: Emitter, node: Node, seed: str) -> str:
        rows, columns = (cx.shape([d]) for d in self._table())
        zero, one = (cx.scalar(n, DType.int64) for n in (0, 1))
        count = cx.emit("ReduceSum", cx.emit("Concat", rows, columns, axis=0), keepdims=0)
        h = self._hashed(cx, self._int32(cx, cx.emit("Range", zero, count, one)), self._key(cx, seed))
        parts = (
            cx.emit("Slice", h, cx.ints([0]), rows),
            cx.emit("Slice", h, rows, cx.emit("Unsqueeze", count, cx.ints([0]))),
        )
        row, column = (cx.emit("Unsqueeze", part, cx.ints([axis])) for part, axis in zip(parts, (1, 0), strict=True))
        doubled = cx.emit("Add", self._odd(cx, row), cx.emit("Mul", column, cx.scalar(2, DType.int32)))
        bits = self._shifted(cx, cx.emit("Mul", cx.emit("Add", row, column), doubled), 32 - _BITS)
        high = cx.emit("Cast", bits, to=cx.onnx_type(DType.float32))
        return cx.emit("Reshape", cx.emit("Mul", high, cx.scalar(2.0**-_BITS, DType.float32)), cx.shape(self.shape))

    def _key(self, cx: Emitter, seed: str) -> str:
        scaled = cx.emit("Mul", self._int32(cx, seed), cx.scalar(_signed(_SEED), DType.int32))
        return cx.emit("Add", scaled, cx.scalar(_signed(self.stream * _STREAM), DType.int32))

    def _hashed(self, cx: Emitter, index: str, key: str) -> str:
        h = cx.emit("Add", index, key)
        for _ in range(_ROUNDS):
            h = cx.emit("Mul", h, self._odd(cx, h))
            low = self._int32(cx, self._shifted(cx, h, 16))
            high = cx.emit("Mul", h, cx.scalar(1 << 16, DType.int32))
            h = cx.emit("Add", cx.emit("Add", high, low), key)
        return h

    @staticmethod
    def _odd(cx: Emitter, h: str) -> str:
        return cx.emit("Add", cx.emit("Mul", h, cx.scalar(2, DType.int32)), cx.scalar(1, DType.int32))

    @staticmethod
    def _int32(cx: Emitter, h: str) -> str:
        return cx.emit("Cast", h, to=cx.onnx_type(DType.int32))

    @staticmethod
    def _shifted(cx: Emitter, h: str, bits: int) -> str:
        """A logical shift to the right, as uint32 (ONNX shifts no signed integers). ONNX Runtime's CUDA provider has no
        BitShift, but divides."""
        unsigned = cx.emit("Cast", h, to=_UINT32)
        distance = cx.emit("Cast", cx.scalar(bits if cx.target.device == "cpu" else 1 << bits, DType.int32), to=_UINT32)
        if cx.target.device == "cpu":
            return cx.emit("BitShift", unsigned, distance, direction="RIGHT")
        return cx.emit("Div", unsigned, distance)
