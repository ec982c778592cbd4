"""The ONNX models of a recipe: training steps, the evaluation, and the values that their state begins with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from onnx import ModelProto

from netdsl.autodiff.in_place import in_place_state
from netdsl.autodiff.step import NEXT, Phase, StateTensor, StepGraph, StepOptions, build_evaluation, build_step
from netdsl.ir.graph import Graph, Parameter, Value
from netdsl.ir.opdef import Target
from netdsl.ir.recipe import Recipe
from netdsl.ir.types import NDArrayAny
from netdsl.onnx.export import OPSET, to_proto
from netdsl.passes.dropout import RemoveDropout
from netdsl.passes.log import RewriteLog
from netdsl.passes.pipelines import TRAINING, run_passes
from netdsl.weights import WeightStore

LOSS = "loss"
_EVALUATION = (RemoveDropout(), *TRAINING)


@dataclass(frozen=True)
class StepModel:
    """A model with what it reads and makes. `graph` is the one that was lowered; `in_place` names the state that the
    model may overwrite while it runs."""

    step: StepGraph
    graph: Graph
    proto: ModelProto
    in_place: frozenset[str] = frozenset()


@dataclass(frozen=True)
class RecipeModels:
    """Builds the models of a recipe from its graph, whose outputs hold the loss and the metrics' statistics."""

    recipe: Recipe
    graph: Graph
    target: Target = field(default_factory=Target)
    opset: int = OPSET

    @property
    def results(self) -> tuple[str, ...]:
        """The outputs that are not state: `loss`, then every metric's statistics."""
        return (LOSS, *(name for spec in self.recipe.metrics for name in spec.statistics))

    def options(self, trained: Mapping[str, int], phase: Phase = "only") -> StepOptions:
        """What the recipe says of a step that trains those parameters, each since an epoch."""
        recipe = self.recipe
        return StepOptions(
            recipe.optimizer.name,
            recipe.optimizer.arguments,
            frozenset(trained),
            late={name: epoch for name, epoch in trained.items() if epoch},
            clip_norm=recipe.clip_norm,
            phase=phase,
            loss_scaling=recipe.precision == "float16",
            precision=recipe.precision,
            recompute=recipe.recompute,
        )

    def step(self, trained: Mapping[str, int], phase: Phase = "only") -> StepModel:
        """The step that trains those parameters, each since an epoch. Raises DiagnosticError for an operator without a
        gradient."""
        step = build_step(self.graph, self.options(trained, phase), self.results)
        graph = run_passes(step.graph, TRAINING, RewriteLog())
        optimizer = {s.name for s in step.state if s.kind == "optimizer"}
        return StepModel(step, graph, self._lower(graph), in_place_state(graph, NEXT) & optimizer)

    def evaluation(self) -> StepModel:
        """The loss and the statistics in inference mode."""
        step = build_evaluation(self.graph, self.results, self.recipe.precision)
        graph = run_passes(step.graph, _EVALUATION, RewriteLog())
        return StepModel(step, graph, self._lower(graph))

    def _lower(self, graph: Graph) -> ModelProto:
        return to_proto(graph, WeightStore(()), opset=self.opset, target=replace(self.target, batch=self.recipe.batch))


def initial_value(tensor: StateTensor) -> NDArrayAny:
    """What a tensor of the optimizer's state is before the first step."""
    parameter = Parameter(Value(tensor.name, tensor.type), tensor.initial)
    return np.array(WeightStore((parameter,)).array(parameter))


def trainable_names(graph: Graph) -> tuple[str, ...]:
    """The parameters that may be trained, in the order of the program."""
    return tuple(p.name for p in graph.parameters if p.kind == "parameter" and p.trainable)
