"""The training step as one graph: forward, loss, metrics, backward, clipping, update, moving averages.

Everything that changes is an input and an output: the state `NAME` comes in and `next/NAME` goes out. So the caller
keeps two sets of buffers and swaps them, and nothing is copied. (An output bound to its own input's buffer is unsafe:
a gradient may read a weight after its update.) The learning rate and the random seed are inputs too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from netdsl.autodiff.algebra import Algebra
from netdsl.autodiff.backward import backward, require_gradient
from netdsl.autodiff.extend import Extension
from netdsl.autodiff.optimizers import OPTIMIZERS, Direction, Update
from netdsl.autodiff.precision import to_mixed
from netdsl.autodiff.recompute import Choice, Recomputation, dropped_values
from netdsl.autodiff.scaling import LossScale
from netdsl.autodiff.training_mode import TrainingForm, to_training
from netdsl.autodiff.vocabulary import project_vocabularies
from netdsl.ir.graph import Graph, Output, Parameter, Value
from netdsl.ir.initializer import ZEROS, Initializer
from netdsl.ir.recipe import Precision
from netdsl.ir.types import DType, TensorType
from netdsl.ops.arithmetic import Minimum
from netdsl.ops.constant import Cast
from netdsl.ops.reduction import Sum

Phase = Literal["only", "first", "middle", "last"]

LEARNING_RATE = "learning_rate"
SEED = "seed"
SHARE = "gradient_share"  #: of a micro-batch in its group, where gradients are accumulated
NEXT = "next/"
GRADIENT = "gradient/"  #: inputs of `build_update`
DIRECTION = "direction/"  #: outputs of `build_directions`
SCALAR = TensorType(DType.float32, ())


@dataclass(frozen=True)
class StateTensor:
    """A tensor that the step reads, and changes if `next/NAME` is among its outputs. `initial` is its value before
    the first step; for parameters and buffers, their own initializer's."""

    name: str
    type: TensorType
    kind: Literal["parameter", "buffer", "optimizer"]
    initial: Initializer


@dataclass(frozen=True)
class StepOptions:
    """What a recipe says of the step.

    `optimizer` and `arguments`: a name of `OPTIMIZERS` and all of its arguments. `clip_norm`: the largest L2 norm of
    all gradients together. `phase`: which part of a group of micro-batches the graph serves; "only" where nothing is
    accumulated. `precision`: of activations, see `precision.to_mixed`. `loss_scaling`: dynamic, for float16.
    `recompute`: what the backward part computes again, see `recompute.dropped_values`. `trainable`: names of the
    parameters that this step trains; `late`: of those that were not trained from the start, the epoch since when.
    """

    optimizer: str
    arguments: Mapping[str, float]
    trainable: frozenset[str]
    clip_norm: float | None = None
    phase: Phase = "only"
    loss_scaling: bool = False
    precision: Precision = "float32"
    recompute: Choice = ()
    late: Mapping[str, int] = field(default_factory=dict)


def step_counter(epoch: int) -> str:
    """The state that counts the updates of the parameters that are trained since an epoch. PyTorch counts for each
    parameter; those that began together have the same count, and share it and what is computed from it."""
    return f"optimizer/step_since_epoch_{epoch}" if epoch else "optimizer/step"


@dataclass(frozen=True)
class StepGraph:
    """A training step. Inputs of `graph`: the batch, then `learning_rate` float32[], `seed` int64[], the state."""

    graph: Graph
    batch: tuple[str, ...]
    state: tuple[StateTensor, ...]
    results: tuple[str, ...]  #: outputs that are not state: the loss and the metrics' statistics


@dataclass
class _Step:
    """One construction: the growing graph and the state met so far."""

    source: Graph
    options: StepOptions
    extension: Extension
    held: dict[str, Value] = field(default_factory=dict)
    state: list[StateTensor] = field(default_factory=list)
    changed: dict[str, Value] = field(default_factory=dict)
    update: type[Update] = Update

    def __post_init__(self) -> None:
        self.a = Algebra(self.extension)
        self.rate = self.scalar(LEARNING_RATE, SCALAR)
        self.seed = self.scalar(SEED, TensorType(DType.int64, ()))
        self.scale = LossScale(self.hold, self.extension) if self.options.loss_scaling else None
        for p in self.source.parameters:
            self.held[p.name] = p.value
            self.state.append(StateTensor(p.name, p.value.type, p.kind, p.initializer))

    def scalar(self, name: str, type: TensorType) -> Value:
        return Value(self.extension.names.take(name), type)

    def hold(self, name: str, type: TensorType, initial: Initializer) -> Value:
        """A new state tensor's value at the start of the step."""
        self.held[name] = Value(self.extension.names.take(name), type)
        self.state.append(StateTensor(name, type, "optimizer", initial))
        return self.held[name]


def build_step(graph: Graph, options: StepOptions, results: Sequence[str]) -> StepGraph:
    """The step for a graph whose outputs include those that `results` names: `loss` and the metrics' statistics.

    Raises DiagnosticError where the loss depends on trained parameters through an operator without a gradient.
    """
    graph = to_mixed(graph, DType[options.precision])
    step = _Step(graph, options, Extension(graph))
    trained = [p for p in graph.parameters if p.name in options.trainable]
    form = to_training(step.extension, graph.nodes, step.seed, frozenset(p.value for p in trained))
    project_vocabularies(step.extension)
    kept = {o.name: form.values.get(o.value, o.value) for o in graph.outputs if o.name in results}
    gradients = _gradients(step, kept["loss"], trained)
    share = step.scalar(SHARE, SCALAR) if options.phase != "only" else None
    if share is not None:
        gradients = _accumulate(step, gradients, share)
    _move_buffers(step, form)
    if options.phase in ("only", "last"):
        _update(step, trained, gradients)
    return _finish(step, kept, share)


def _move_buffers(step: _Step, form: TrainingForm) -> None:
    """Moving averages after the step, in every batch of a group."""
    step.extension.at("buffers", None)
    for parameter in step.source.parameters:
        new = form.updates.get(parameter.value)
        if new is not None:
            step.changed[parameter.name] = step.scale.kept_where_finite(new, parameter.value) if step.scale else new


def build_update(graph: Graph, options: StepOptions, differentiable: Collection[str]) -> StepGraph:
    """The part of the step after the gradients, for gradients that come from elsewhere: the inputs `gradient/NAME` for
    each trained parameter of `differentiable`. Its inputs are otherwise those of the step that it uses, without the
    batch; it has no results."""
    step = _Step(graph, options, Extension(graph))
    trained = [p for p in graph.parameters if p.name in options.trainable and p.name in differentiable]
    gradients = {p.name: step.scalar(f"{GRADIENT}{p.name}", p.value.type) for p in trained}
    given = tuple(gradients.values())
    share = step.scalar(SHARE, SCALAR) if options.phase != "only" else None
    if share is not None:
        gradients = _accumulate(step, gradients, share)
    if options.phase in ("only", "last"):
        _update(step, trained, gradients)
    scalars = (step.rate, *([share] if share is not None else []))
    inputs = (*given, *scalars, *(step.held[s.name] for s in step.state))
    outputs = tuple(Output(NEXT + name, value) for name, value in step.changed.items())
    whole = Graph(graph.name, inputs, outputs, tuple(step.extension.nodes), ())
    return StepGraph(whole, (), tuple(step.state), ())


def build_directions(graph: Graph, options: StepOptions, differentiable: Collection[str]) -> StepGraph:
    """As `build_update`, but for an update that is done elsewhere: instead of a parameter's next value an output
    `direction/NAME`, which times the learning rate is to be subtracted from it. No gradients are accumulated."""
    step = _Step(graph, options, Extension(graph))
    trained = [p for p in graph.parameters if p.name in options.trainable and p.name in differentiable]
    gradients = {p.name: step.scalar(f"{GRADIENT}{p.name}", p.value.type) for p in trained}
    given = tuple(gradients.values())
    step.update, step.rate = Direction, step.extension.constant(1.0, DType.float32)
    _update(step, trained, gradients)
    names = {p.name: DIRECTION + p.name for p in trained}
    outputs = tuple(Output(names.get(name, NEXT + name), value) for name, value in step.changed.items())
    inputs = (*given, *(step.held[s.name] for s in step.state))
    return StepGraph(Graph(graph.name, inputs, outputs, tuple(step.extension.nodes), ()), (), tuple(step.state), ())


def _gradients(step: _Step, loss: Value, trained: Sequence[Parameter]) -> dict[str, Value]:
    """The gradient of each trained parameter that the loss depends on, by name; times the loss scale, if there is
    one. Raises DiagnosticError where an operator without a gradient keeps it from all of them."""
    forward = list(step.extension.nodes)
    step.extension.at("loss", None)
    seed = step.scale.seed(loss.dtype) if step.scale else step.extension.constant(1.0, loss.dtype)
    dropped = dropped_values(forward, step.options.recompute)
    stand_in = Recomputation(step.extension, forward, dropped).stand_in if dropped else None
    sources = [p.value for p in trained]
    by_value = backward(step.extension, forward, {loss: seed}, sources, stand_in)
    if not by_value:
        require_gradient(forward, loss, sources)
    return {p.name: by_value[p.value] for p in trained if p.value in by_value}


def _accumulate(step: _Step, gradients: Mapping[str, Value], share: Value) -> dict[str, Value]:
    """The group's gradient so far: each micro-batch counts by its share of the group's items."""
    total = {}
    for name, gradient in gradients.items():
        step.extension.at(f"{name}.accumulate", None)
        factor = share if share.dtype is gradient.dtype else step.extension.emit(Cast(gradient.dtype), share)
        scaled = step.a.mul(gradient, factor)
        held = f"accumulated/{name}"
        if step.options.phase != "first":
            scaled = step.a.add(step.hold(held, gradient.type, ZEROS), scaled)
        if step.options.phase != "last":
            step.changed[held] = scaled
        total[name] = scaled
    return total


def _clip(step: _Step, gradients: dict[str, Value]) -> dict[str, Value]:
    """Scales all gradients together so that their L2 norm is at most `clip_norm` (Pascanu et al. 2012; PyTorch's
    clip_grad_norm_)."""
    limit = step.options.clip_norm
    if limit is None or not gradients:
        return gradients
    step.extension.at("clip_norm", None)
    squares = [step.extension.emit(Sum(tuple(range(g.rank))), step.a.mul(g, g)) for g in gradients.values()]
    total = squares[0]
    for square in squares[1:]:
        total = step.a.add(total, square)
    ratio = step.a.div(limit, step.a.add(step.a.sqrt(total), 1e-6))
    factor = step.extension.emit(Minimum(), ratio, step.extension.constant(1.0, ratio.dtype))
    return {name: step.a.mul(g, factor) for name, g in gradients.items()}


def _update(step: _Step, trained: Sequence[Parameter], gradients: dict[str, Value]) -> None:
    """Parameters and optimizer state after the step; after one that overflowed, those before it."""
    step.extension.at("loss_scale", None)
    finite = step.scale.finite(gradients) if step.scale and gradients else None
    if step.scale and finite is not None:
        gradients = step.scale.unscale(gradients)
        step.changed |= step.scale.following(finite)
    gradients = _clip(step, gradients)
    step.extension.at("optimizer", None)
    counters = {p.name: step_counter(step.options.late.get(p.name, 0)) for p in trained}
    following = {n: step.a.add(step.hold(n, SCALAR, ZEROS), 1.0) for n in dict.fromkeys(counters.values())}
    for parameter in trained:
        if parameter.name in gradients:
            count = following[counters[parameter.name]]
            following |= _updated(step, parameter, gradients[parameter.name], count)
    if finite is not None:
        following = {name: step.a.where(finite, v, step.held[name]) for name, v in following.items()}
    step.changed |= following


def _updated(step: _Step, parameter: Parameter, gradient: Value, t: Value) -> dict[str, Value]:
    """One parameter and its optimizer state after the step."""
    definition, arguments = OPTIMIZERS[step.options.optimizer], step.options.arguments
    step.extension.at(f"{parameter.name}.update", parameter.place)
    first = float(arguments.get(definition.initial, 0.0))
    initial = Initializer("constant", (first,)) if first else ZEROS
    prefix = f"optimizer/{parameter.name}"
    state = {n: step.hold(f"{prefix}/{n}", parameter.value.type, initial) for n in definition.state(arguments)}
    update = step.update(step.a, arguments, parameter.value, gradient, state, step.rate, t)
    moved, following = definition.rule(update)
    return {parameter.name: moved, **{f"{prefix}/{n}": v for n, v in following.items()}}


def _finish(step: _Step, kept: Mapping[str, Value], share: Value | None) -> StepGraph:
    """The graph: the batch, the scalars and the state in; the results and the changed state out."""
    scalars = [step.rate, step.seed, *([share] if share is not None else [])]
    inputs = (*step.source.inputs, *scalars, *(step.held[s.name] for s in step.state))
    outputs = [Output(name, value) for name, value in kept.items()]
    outputs += [Output(NEXT + name, value) for name, value in step.changed.items()]
    graph = Graph(step.source.name, inputs, tuple(outputs), tuple(step.extension.nodes), ())
    batch = tuple(v.name for v in step.source.inputs)
    return StepGraph(graph, batch, tuple(step.state), tuple(kept))


def build_evaluation(graph: Graph, results: Sequence[str], precision: Precision = "float32") -> StepGraph:
    """The loss and the metrics' statistics in inference mode, with the same state as inputs; nothing changes."""
    graph = to_mixed(graph, DType[precision])
    state = tuple(StateTensor(p.name, p.value.type, p.kind, p.initializer) for p in graph.parameters)
    inputs = (*graph.inputs, *(p.value for p in graph.parameters))
    outputs = tuple(o for o in graph.outputs if o.name in results)
    evaluation = Graph(graph.name, inputs, outputs, graph.nodes, ())
    return StepGraph(evaluation, tuple(v.name for v in graph.inputs), state, tuple(o.name for o in outputs))
