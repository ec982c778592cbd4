"""What an operator is.

An `Operator` is what a program calls: a name, a signature and `call`, which checks the arguments, makes the
parameters and emits nodes. A `Primitive` is an operator that also stands in graphs: a frozen dataclass whose fields
are the attributes of a node, with one method for each thing that the compiler knows about it. An instance is one
configuration (`Conv(stride=(2, 2), …)`), compares by value, and is matched by patterns in passes.

The rules take the protocols of this module, so an operator's file imports no driver. `LayerContext` emits graph nodes,
`Emitter` emits ONNX nodes: a rule cannot mix them up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Protocol, Self

from netdsl.ir.arguments import Param
from netdsl.ir.dims import Dim, Expr, substitute
from netdsl.ir.graph import Node, Value
from netdsl.ir.initializer import Initializer
from netdsl.ir.reach import POINTWISE, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType


class OpError(Exception):
    """A call or a node that an operator refuses.

    `argument` names the argument of the signature at fault, if it is one; the driver underlines it and adds the
    operands' types and origins itself. `help` says what to write instead. `within` are the first character at fault and
    the one behind the last, where the argument is a string.
    """

    def __init__(
        self,
        message: str,
        *,
        argument: str | None = None,
        help: str | Sequence[str] = (),
        name: str = "invalid-argument",
        within: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.argument = argument
        self.within = within
        self.help = (help,) if isinstance(help, str) else tuple(help)
        self.name = name


class ShapeError(OpError):
    """Operands whose shapes or element types do not fit; the driver adds both types and where each came from."""

    def __init__(
        self,
        message: str,
        *,
        argument: str | None = None,
        help: str | Sequence[str] = (),
        within: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(message, argument=argument, help=help, name="shape-mismatch", within=within)


@dataclass(frozen=True, slots=True)
class Cost:
    """Work of one node. `macs`: multiply-accumulates of convolutions and matrix products, without bias (the
    convention of torchvision's tables). `other`: every other arithmetic operation; comparisons, moves and copies
    count nothing."""

    macs: Dim = 0
    other: Dim = 0

    @property
    def flops(self) -> Dim:
        """2 per MAC and every other arithmetic operation."""
        return 2 * self.macs + self.other


class LayerContext(Protocol):
    """What `Operator.call` may do: make parameters under the layer's path and emit nodes."""

    @property
    def frozen(self) -> bool:
        """Whether the layer stands inside a `frozen` callable: never trained, inference mode."""

    def parameter(
        self, name: str, shape: Sequence[Dim], initializer: Initializer, *, dtype: DType, buffer: bool = False
    ) -> Value:
        """The layer's parameter `path.name`; raises OpError where a dimension is symbolic."""

    def parameters_matching(self, pattern: str) -> tuple[Value, ...]:
        """The trainable parameters made so far whose full names match an fnmatch pattern (`*` crosses dots). Raises
        OpError where there is none."""

    def count(self, name: str) -> Dim:
        """A new dimension that depends on the data, named after `name`: for an operator that finds it (see
        `Primitive.counts`)."""

    def emit(self, op: Primitive, *inputs: Value) -> Value:
        """A node with one output."""

    def emit_all(self, op: Primitive, *inputs: Value) -> tuple[Value, ...]:
        """A node with any number of outputs."""

    def constant(self, value: NDArrayAny | float | int | bool, dtype: DType) -> Value:
        """A constant tensor; a number gives a scalar."""

    def dimension(self, dim: Dim, dtype: DType) -> Value:
        """A dimension's run-time value as a scalar tensor."""

    def constant_value(self, value: Value) -> NDArrayAny | None:
        """What a constant tensor holds; None for every other tensor."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a model is made for, where an operator has several ONNX forms: the kind of device and, on a CPU, how many
    threads ONNX Runtime will have. `certain`: it is netdsl that starts them; else any number may be there after all.
    `batch`: what a symbolic axis will probably be. `block`: how many channels a block of ONNX Runtime's own layout has,
    if the model may use its operators for that; 0 for standard operators alone."""

    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1
    certain: bool = False
    batch: int = 32
    block: int = 0

    @property
    def adds_in_order(self) -> bool:
        """Whether ONNX Runtime's ScatterND adds what falls on one place without losing any of it: its CPU form shares
        the updates among the threads, which overwrite each other's sums; CUDA's adds atomically."""
        return self.device == "cuda" or (self.certain and self.threads == 1)


class Emitter(Protocol):
    """What `Primitive.lower` may do: emit ONNX nodes. Tensors are names. A node that is there already, with the same
    inputs and attributes, is not emitted again."""

    @property
    def opset(self) -> int: ...

    @property
    def target(self) -> Target: ...

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is known when the model is written, so that a runtime may prepare it when it loads."""

    def emit(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """An ONNX node with one output; the name of that output. An absent optional input is the empty string.
        An operator of another domain than ONNX's own is called `DOMAIN::NAME`."""

    def emit_all(self, op_type: str, outputs: int, *inputs: str, **attributes: Any) -> tuple[str, ...]:
        """An ONNX node with several outputs."""

    def subgraph(self, inputs: int, build: Callable[..., Sequence[str]]) -> Any:
        """A graph that is an attribute of a node, such as the `body` of a Scan. `build` gets the names of its inputs,
        emits its nodes and returns the names of its outputs; its nodes may read every tensor outside of it."""

    def ints(self, values: Sequence[int]) -> str:
        """A constant int64 vector."""

    def scalar(self, value: float | int | bool, dtype: DType) -> str:
        """A constant scalar (rank 0)."""

    def array(self, array: NDArrayAny) -> str:
        """A constant array."""

    def shape(self, dims: Sequence[Dim]) -> str:
        """An int64 vector of dimensions: constant where all are integers, else computed from the inputs' shapes."""

    def onnx_type(self, dtype: DType) -> int:
        """ONNX's code of an element type, for Cast and the like."""


class GradientContext(Protocol):
    """What `Primitive.gradient` may do: emit graph nodes after the forward ones."""

    def wants(self, value: Value) -> bool:
        """Whether a gradient with respect to this value is of use."""

    def emit(self, op: Primitive, *inputs: Value) -> Value: ...

    def emit_all(self, op: Primitive, *inputs: Value) -> tuple[Value, ...]: ...

    def constant(self, value: NDArrayAny | float | int | bool, dtype: DType) -> Value: ...

    def dimension(self, dim: Dim, dtype: DType) -> Value: ...


class TrainingContext(GradientContext, Protocol):
    """What `Primitive.training` may do: emit the form that a node takes while it is trained."""

    def current(self, buffer: Value) -> Value:
        """A buffer's value at this point of the step: its own, or what an earlier use of the layer made of it."""

    def update(self, buffer: Value, value: Value) -> None:
        """The buffer's value from here on, which the step stores at its end."""

    def random(self, type: TensorType) -> Value:
        """Uniform numbers in [0, 1), other ones for each call and each step, a function of the step's seed alone."""


class NotDifferentiable(Exception):
    """The operator has no gradient; the driver points at its place of use."""


class Operator:
    """What a program calls. Subclasses are never instantiated unless they are primitives.

    `reference` is the paper or the ONNX operator that the definition implements; the class docstring is its
    documentation.
    """

    name: ClassVar[str]
    family: ClassVar[str]
    signature: ClassVar[tuple[Param, ...]]
    reference: ClassVar[str] = ""

    @classmethod
    def call(cls, cx: LayerContext, *args: Any, **kwargs: Any) -> Value | tuple[Value, ...]:
        """Emits the layer. Keyword arguments are the signature's, converted by their kinds. Raises OpError."""
        raise TypeError(f"{cls.__name__} defines no call")


@dataclass(frozen=True)
class Primitive(Operator):
    """An operator that stands in graphs. Its dataclass fields are the node's attributes: integers, floats, booleans,
    strings, None, dimensions, element types, `Array`s and tuples of these."""

    foldable: ClassVar[bool] = True  #: a node of constants alone may be evaluated at compile time (not for random ones)
    commutative: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True  #: False: has no gradient rule, and nothing is trained through it
    repeatable: ClassVar[bool] = True  #: equal nodes of equal operands may be made one (not random ones)
    retyped: ClassVar[bool] = True  #: False: its float32 operands stay float32 in a model of 16-bit floats
    counted: ClassVar[bool] = True  #: False: its work is not known, and a report says so
    flops_per_element: ClassVar[int] = 0  #: for the default cost rule: arithmetic operations per output element
    signature: ClassVar[tuple[Param, ...]] = ()

    @property
    def title(self) -> str:
        """What messages and reports call it."""
        return self.name

    @property
    def counts(self) -> tuple[str, ...]:
        """The counts that a node with this operator finds when it runs: each is the size of an axis of its outputs."""
        return ()

    @classmethod
    def call(cls, cx: LayerContext, *args: Any, **kwargs: Any) -> Value | tuple[Value, ...]:
        """The default: tensors of the signature are the node's inputs, every other argument a field of the same
        name."""
        inputs = [kwargs.pop(p.name) for p in cls.signature if p.kind.is_tensor]
        outputs = cx.emit_all(cls(**kwargs), *inputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def infer(self, *inputs: Any, **kwargs: Any) -> TensorType | tuple[TensorType, ...]:
        """The outputs' types from the inputs' types. Raises ShapeError. The default: that of the first input."""
        first: TensorType = inputs[0]
        return first

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        """The default: `flops_per_element` for each element of the first output."""
        return Cost(other=self.flops_per_element * outputs[0].size)

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        """How far one output element sees into the first input, per spatial axis. The default: its own position."""
        return POINTWISE

    def evaluate(self, *inputs: Any, **kwargs: Any) -> NDArrayAny | tuple[NDArrayAny, ...]:
        """The NumPy rule: the definition that every other form is compared with. Dimensions in fields are integers."""
        raise TypeError(f"{self.name} has no NumPy rule")

    def lower(self, cx: Emitter, node: Node, *inputs: Any, **kwargs: Any) -> str | tuple[str, ...]:
        """The ONNX form of a node in opsets 17 to 26: the names of its outputs."""
        raise TypeError(f"{self.name} has no ONNX form")

    def training(self, cx: TrainingContext, node: Node) -> tuple[Value, ...] | None:
        """The outputs' values in training mode, or None where the node is the same in both modes (the default)."""
        return None

    def gradient(self, cx: GradientContext, node: Node, *outputs: Any, **kwargs: Any) -> Sequence[Value | None]:
        """The gradient of the loss for each input, from that for each output (`Value`, or None: the loss does not
        depend on it; at least one is not None). Entries for inputs that `cx.wants` not are ignored and may be None.
        Raises NotDifferentiable (the default)."""
        raise NotDifferentiable

    def bind(self, env: dict[str, int]) -> Self:
        """The same operator with symbols replaced by integers."""
        changes = {}
        for f in fields(self):
            old = getattr(self, f.name)
            new = _bind(old, env)
            if new is not old:
                changes[f.name] = new
        return replace(self, **changes) if changes else self


def _bind(value: Any, env: dict[str, int]) -> Any:
    if isinstance(value, Expr):
        return substitute(value, env)
    if isinstance(value, tuple):
        new = tuple(_bind(v, env) for v in value)
        return new if any(a is not b for a, b in zip(new, value, strict=True)) else value
    return value


def same_dtype(op: str, *inputs: TensorType) -> DType:
    """The inputs' common element type. Raises ShapeError where they differ."""
    for other in inputs[1:]:
        if other.dtype is not inputs[0].dtype:
            to = max((inputs[0].dtype, other.dtype), key=lambda dtype: (dtype.is_float, dtype is not DType.bool))
            raise ShapeError(
                f"{op}: element types {inputs[0].dtype} and {other.dtype} do not mix",
                help=f"convert one of them: cast(x, {to})",
            )
    return inputs[0].dtype


def require_float(op: str, x: TensorType) -> None:
    """Raises ShapeError unless the element type is a float."""
    if not x.dtype.is_float:
        raise ShapeError(f"{op} needs a float tensor, found {x}", help="convert it first: cast(x, float32)")


def require_rank(op: str, x: TensorType, low: int, high: int | None = None) -> None:
    """Raises ShapeError unless the rank is in `low..high` (`high` None: no upper limit)."""
    if x.rank >= low and (high is None or x.rank <= high):
        return
    wanted = f"{low}" if high == low else f"{low} or more" if high is None else f"{low} to {high}"
    raise ShapeError(f"{op} needs a tensor of rank {wanted}, found {x} of rank {x.rank}")


def normal_axis(op: str, axis: int, rank: int, argument: str = "axis") -> int:
    """An axis counted from the start. Raises OpError if the tensor has no such axis."""
    if -rank <= axis < rank:
        return axis % rank
    raise OpError(f"{op}: axis {axis} is out of range for a tensor of rank {rank}", argument=argument)
