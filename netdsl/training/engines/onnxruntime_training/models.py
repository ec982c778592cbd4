"""Training steps whose gradients onnxruntime-training makes.

The forward pass in training mode goes to the engine, in forms that it can differentiate; to the model that comes back
netdsl appends its own update, which so may be any optimizer, with clipping, accumulation and frozen parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from onnx import ModelProto

from netdsl.autodiff.extend import Extension
from netdsl.autodiff.step import GRADIENT, NEXT, SEED, SHARE, Phase, StepGraph, build_directions, build_update
from netdsl.autodiff.training_mode import to_training
from netdsl.diagnostics import DiagnosticError, error
from netdsl.ir.graph import Graph, Output, Value
from netdsl.ir.types import DType, TensorType
from netdsl.onnx.export import to_proto
from netdsl.passes.dead_code import DeadCode
from netdsl.passes.log import RewriteLog
from netdsl.passes.pipelines import TRAINING, run_passes
from netdsl.training.engines.onnxruntime_training.convert import engine_form
from netdsl.training.engines.onnxruntime_training.cuts import Cut, cut, join
from netdsl.training.engines.onnxruntime_training.operators import StopGradient
from netdsl.training.engines.onnxruntime_training.process import EngineFailure
from netdsl.training.models import LOSS, RecipeModels, StepModel
from netdsl.weights import WeightStore

#: the oldest that netdsl writes: its operators are those for which the engine has most gradients
OPSET = 17
#: what the engine differentiates in the form in which it runs, while netdsl has another one for training
ITS_OWN = frozenset({"gru", "lstm", "rnn"})
_UPDATE = "update/"  # begins the names of what the update computes

Differentiate = Callable[[bytes, Sequence[str]], bytes]


@dataclass(frozen=True)
class Forward:
    """The forward pass in training mode. `trained` are the parameters that the loss depends on, in order."""

    graph: Graph
    parts: Cut
    trained: tuple[str, ...]


@dataclass(frozen=True)
class EngineModels(RecipeModels):
    """`differentiate` gives a model and the names of its inputs that are trained to the engine, and returns what it
    made: the model with an output `NAME_grad` for each. It raises EngineFailure."""

    differentiate: Differentiate = lambda model, trained: model

    def step(self, trained: Mapping[str, int], phase: Phase = "only") -> StepModel:
        forward = self.forward(frozenset(trained))
        gradients = self._differentiated(forward)
        made = build_update(self.graph, self.options(trained, phase), forward.trained)
        update = run_passes(made.graph, TRAINING, RewriteLog())
        tail = to_proto(update, WeightStore(()), opset=OPSET, target=self.target)
        proto = _merged(join(gradients, forward.parts), tail)
        share = [v for v in update.inputs if v.name == SHARE]
        inputs = (*forward.graph.inputs, *share)
        whole = Graph(self.graph.name, inputs, (*forward.graph.outputs, *update.outputs), (), ())
        step = StepGraph(whole, tuple(v.name for v in self.graph.inputs), made.state, self.results)
        return StepModel(step, whole, proto)

    def directions(self, trained: Mapping[str, int], differentiable: Sequence[str]) -> tuple[ModelProto, StepGraph]:
        """What an optimizer of the package's own, plain gradient descent, is to be given: see `build_directions`."""
        made = build_directions(self.graph, self.options(trained), differentiable)
        tail = run_passes(made.graph, TRAINING, RewriteLog())
        return to_proto(tail, WeightStore(()), opset=OPSET, target=self.target), made

    def forward(self, trained: frozenset[str], opset: int = OPSET) -> Forward:
        """Raises DiagnosticError for what the engine cannot do."""
        extension = Extension(self.graph)
        seed = Value(extension.names.take(SEED), TensorType(DType.int64, ()))
        parameters = [p for p in self.graph.parameters if p.name in trained]
        values = frozenset(p.value for p in parameters)
        form = to_training(extension, self.graph.nodes, seed, values, keep=ITS_OWN)
        outputs = [Output(o.name, form.values.get(o.value, o.value)) for o in self.graph.outputs]
        outputs = [o for o in outputs if o.name in self.results]
        outputs += [
            Output(NEXT + p.name, form.updates[p.value]) for p in self.graph.parameters if p.value in form.updates
        ]
        inputs = (*self.graph.inputs, seed, *(p.value for p in self.graph.parameters))
        plain = run_passes(
            Graph(self.graph.name, inputs, tuple(outputs), tuple(extension.nodes), ()), TRAINING, RewriteLog()
        )
        graph = run_passes(engine_form(plain, trained), (DeadCode(),), RewriteLog())
        proto = to_proto(graph, WeightStore(()), opset=opset, target=self.target)
        return Forward(graph, cut(proto, graph), _reached(graph, trained))

    def _differentiated(self, forward: Forward) -> ModelProto:
        if not forward.trained:
            return forward.parts.model
        try:
            made = self.differentiate(forward.parts.model.SerializeToString(), forward.trained)
        except EngineFailure as reason:
            place = self.recipe.place
            raise DiagnosticError(
                [
                    error(
                        "engine-lacks-gradient",
                        f"the engine onnxruntime-training cannot differentiate the loss: {reason}",
                        place.span if place else None,
                        path=place.path if place else "",
                        help="train with --engine standard, which can",
                    )
                ]
            ) from None
        model: ModelProto = ModelProto.FromString(made)
        return model


def _reached(graph: Graph, trained: frozenset[str]) -> tuple[str, ...]:
    """The trained parameters that the loss depends on in a way that has a gradient."""
    found = {o.value for o in graph.outputs if o.name == LOSS}
    for node in reversed(graph.nodes):
        if node.op.name != StopGradient.name and any(v in found for v in node.outputs):
            found.update(v for v in node.inputs if v.dtype.is_float)
    return tuple(v.name for v in graph.inputs if v.name in trained and v in found)


def _merged(gradients: ModelProto, update: ModelProto) -> ModelProto:
    """The model of the gradients followed by that of the update, which reads them; the gradients are no outputs."""
    result = followed(gradients, update)
    body, tail = result.graph, update.graph
    own = {f"{i.name.removeprefix(GRADIENT)}_grad" for i in tail.input if i.name.startswith(GRADIENT)}
    known = {i.name for i in body.input}
    body.input.extend(i for i in tail.input if not i.name.startswith(GRADIENT) and i.name not in known)
    kept = [o for o in gradients.graph.output if o.name not in own]
    del body.output[:]
    body.output.extend([*kept, *tail.output])
    return result


def followed(gradients: ModelProto, update: ModelProto) -> ModelProto:
    """The model of the gradients with the nodes of the update, which read them; inputs and outputs stay."""
    result = ModelProto()
    result.CopyFrom(gradients)
    body, tail = result.graph, update.graph
    renamed = {i.name: f"{i.name.removeprefix(GRADIENT)}_grad" for i in tail.input if i.name.startswith(GRADIENT)}
    own = {o.name for o in tail.output} | {i.name for i in tail.input}

    def name(old: str) -> str:
        return renamed.get(old) or (old if not old or old in own else _UPDATE + old)

    for node in tail.node:
        copy = body.node.add()
        copy.CopyFrom(node)
        copy.name = _UPDATE + node.name
        for field in (copy.input, copy.output):
            field[:] = [name(n) for n in field]
    for tensor in tail.initializer:
        body.initializer.add().CopyFrom(tensor)
        body.initializer[-1].name = name(tensor.name)
    return result
