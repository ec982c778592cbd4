"""The types of ONNX operators by ONNX's own shape inference, symbols kept.

ONNX carries names of dimensions through, but no arithmetic on them. A size that it leaves open is found from its
answers for numbers: the inference runs for many values of each symbol, and a form `(a*s + b) // c`, or a multiple of a
product of symbols, that gives them all, from the smallest to the largest, is the size. Where there is none, the program
is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from netdsl.ir.dims import Dim, Expr, evaluate, product, symbol
from netdsl.ir.opdef import ShapeError
from netdsl.ir.types import Array, DType, NDArrayAny, TensorType, dtype_of
from netdsl.ops.onnx_schema import LAST

Slot = bool | Array  #: an input: a node's (true), absent (false), or a constant
Attributes = tuple[tuple[str, Any], ...]
_Samples = dict[int, int]  #: a size by the value of a symbol

_VALUES = (*range(1, 67), 97, 128, 255, 256, 1000, 4095, 65537, 1 << 20)  #: of a symbol, when a size is looked for
_DIVISORS = 64
_OPEN = "a size that depends on the values of a tensor is not known when a program is compiled"
_ENOUGH = 20  #: values of a symbol that ONNX must have accepted


@dataclass(frozen=True)
class Spec:
    """What a node is, but for the values that it reads."""

    operator: str
    slots: tuple[Slot, ...]
    attributes: Attributes
    outputs: int


def code_of(dtype: DType) -> int:
    """ONNX's number of an element type."""
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(dtype.numpy))


def attribute_value(value: Any) -> Any:
    """An attribute as ONNX takes it."""
    from onnx import numpy_helper

    if isinstance(value, DType):
        return code_of(value)
    if isinstance(value, Array):
        return numpy_helper.from_array(value.data)
    return [attribute_value(v) for v in value] if isinstance(value, tuple) else value


def one_node_model(spec: Spec, types: Sequence[TensorType], names: Mapping[Expr, str]) -> Any:
    """An ONNX model of the node alone: its inputs are `x0`, `x1`, …, its outputs `y0`, …"""
    from onnx import helper, numpy_helper

    inputs = [
        helper.make_tensor_value_info(
            f"x{i}", code_of(t.dtype), [names[d] if isinstance(d, Expr) else d for d in t.shape]
        )
        for i, t in enumerate(types)
    ]
    operands, constants, taken = [], [], 0
    for i, slot in enumerate(spec.slots):
        if isinstance(slot, Array):
            constants.append(numpy_helper.from_array(slot.data, f"c{i}"))
        operands.append(f"c{i}" if isinstance(slot, Array) else f"x{taken}" if slot else "")
        taken += slot is True
    outputs = [f"y{i}" for i in range(spec.outputs)]
    attributes = {name: attribute_value(value) for name, value in spec.attributes}
    node = helper.make_node(spec.operator, operands, outputs, **attributes)
    made = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph([node], "node", inputs, made, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", LAST)])


@lru_cache(maxsize=4096)
def infer_types(spec: Spec, types: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    """The outputs' types. Raises ShapeError."""
    dims = dict.fromkeys(d for t in types for d in t.shape if isinstance(d, Expr))
    names = {d: f"d{i}" for i, d in enumerate(dims)}
    back: dict[str, Dim] = {name: d for d, name in names.items()}
    made = _inferred(spec, types, names)
    sizes = _Sizes(spec, types)
    found = []
    for number, (dtype, shape) in enumerate(made):
        known = [d if isinstance(d, int) else back.get(d) if d is not None else None for d in shape]
        found.append(
            TensorType(dtype, tuple(sizes.find(number, axis) if d is None else d for axis, d in enumerate(known)))
        )
    return tuple(found)


def _inferred(
    spec: Spec, types: Sequence[TensorType], names: Mapping[Expr, str]
) -> list[tuple[DType, list[int | str | None]]]:
    """Each output's element type and sizes: a number, a name, or None where ONNX leaves it open."""
    from onnx import shape_inference

    try:
        model = shape_inference.infer_shapes(
            one_node_model(spec, types, names), check_type=True, strict_mode=True, data_prop=True
        )
    except Exception as failure:  # onnx raises errors of several kinds, all of them about this node
        raise ShapeError(f"onnx.{spec.operator}: {_sentence(failure)}") from None
    return [_output_type(spec, value) for value in model.graph.output]


def _output_type(spec: Spec, value: Any) -> tuple[DType, list[int | str | None]]:
    from onnx import helper

    kind = value.type.WhichOneof("value")
    if kind not in (None, "tensor_type"):
        raise ShapeError(f"onnx.{spec.operator} makes a {kind.removesuffix('_type')}, and values here are tensors")
    tensor = value.type.tensor_type
    if kind is None or not tensor.HasField("shape"):
        raise ShapeError(f"onnx.{spec.operator}: ONNX's shape inference does not say what shape the result has")
    try:
        dtype = dtype_of(np.empty(0, helper.tensor_dtype_to_np_dtype(tensor.elem_type)))
    except KeyError:
        raise ShapeError(f"onnx.{spec.operator} makes a tensor of an element type that netdsl does not have") from None
    dims: list[int | str | None] = []
    for dim in tensor.shape.dim:
        dims.append(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None)
    return dtype, dims


def _sentence(failure: Exception) -> str:
    """What ONNX says is wrong, without its own places."""
    text = " ".join(str(failure).split())
    for mark in ("[ShapeInferenceError]", "[TypeInferenceError]"):
        text = text.rpartition(mark)[2]
    return text.split("==> Context:")[0].strip(" :.") or "ONNX's shape inference refuses it"


class _Sizes:
    """Looks for the sizes that ONNX leaves open as formulas of one symbol."""

    def __init__(self, spec: Spec, types: Sequence[TensorType]) -> None:
        self._spec = spec
        self._types = types
        self._symbols = sorted({s for t in types for d in t.shape if isinstance(d, Expr) for s in d.symbols})

    def find(self, number: int, axis: int) -> Dim:
        """The size of an axis of an output. Raises ShapeError."""
        bases = [{s: start + 7 * i for i, s in enumerate(self._symbols)} for start in (64, 331)]
        moving: dict[str, list[_Samples]] = {}
        measured = False
        for s in self._symbols:
            samples = [self._samples(base, s, number, axis) for base in bases]
            if any(len(set(sample.values())) > 1 for sample in samples):
                moving[s] = samples
            measured |= any(samples)
        found = _formula(moving) if len(moving) == 1 else _product(moving, bases)
        if found is not None:
            return found
        what = f"axis {axis} of its result" if number == 0 else f"axis {axis} of its result {number + 1}"
        raise ShapeError(
            f"onnx.{self._spec.operator}: ONNX's shape inference does not say how large {what} is",
            help="give the symbols numbers with --set" if measured else _OPEN,
        )

    def _samples(self, base: Mapping[str, int], name: str, number: int, axis: int) -> _Samples:
        """The sizes for values of one symbol, those that ONNX refuses left out."""
        found = {}
        for value in _VALUES:
            env = {**base, name: value}
            types = [t.with_shape([evaluate(d, env) for d in t.shape]) for t in self._types]
            try:
                size = _inferred(self._spec, types, {})[number][1][axis]
            except ShapeError:
                continue
            if isinstance(size, int):
                found[value] = size
        return found


def _formula(moving: Mapping[str, Sequence[_Samples]]) -> Dim | None:
    """`(a*s + b) // c` of the one symbol that gives every size, whatever the others are."""
    ((name, (sizes, others)),) = moving.items()
    if sizes != others or len(sizes) < _ENOUGH:
        return None
    values = list(sizes)
    start = values[len(values) // 4]
    for c in range(1, _DIVISORS + 1):
        if start + c not in sizes:
            return None
        a = sizes[start + c] - sizes[start]
        low = max(c * size - a * v for v, size in sizes.items())
        high = min(c * size - a * v + c - 1 for v, size in sizes.items())
        if low <= high:
            return (a * symbol(name) + low) // c
    return None


def _product(moving: Mapping[str, Sequence[_Samples]], bases: Sequence[Mapping[str, int]]) -> Dim | None:
    """A multiple of the product of the symbols that gives every size."""
    factors: set[int] = set()
    for name, samples in moving.items():
        for base, sizes in zip(bases, samples, strict=True):
            others = prod(base[other] for other in moving if other != name)
            if len(sizes) < _ENOUGH or any(size % (others * value) for value, size in sizes.items()):
                return None
            factors.update(size // (others * value) for value, size in sizes.items())
    return product(symbol(name) for name in moving) * factors.pop() if len(factors) == 1 else None


def evaluate_node(spec: Spec, arrays: Sequence[NDArrayAny]) -> tuple[NDArrayAny, ...]:
    """The outputs by ONNX's reference implementation."""
    from onnx.reference import ReferenceEvaluator

    types = [TensorType(dtype_of(a), a.shape) for a in arrays]
    evaluator = ReferenceEvaluator(one_node_model(spec, types, {}))
    results = evaluator.run(None, {f"x{i}": a for i, a in enumerate(arrays)})
    wanted = infer_types(spec, tuple(types))
    return tuple(np.asarray(a).astype(t.dtype.numpy, copy=False) for a, t in zip(results, wanted, strict=True))
