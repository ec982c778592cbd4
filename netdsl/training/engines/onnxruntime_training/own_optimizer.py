"""Optimizers that the package does not have, in artefacts for its APIs.

The training model computes the optimizer's direction in the place of each gradient, and the package's gradient descent
multiplies it by the rate. The optimizer's state is parameters of the checkpoint that are not trained, and its next
values are outputs of the training model, as those of batch norm's running statistics are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnx import ModelProto, NodeProto, numpy_helper

from netdsl.autodiff.step import DIRECTION, NEXT
from netdsl.ir.types import NDArrayAny, TensorType
from netdsl.onnx.lower import value_info
from netdsl.training.engines.onnxruntime_training.cuts import ordered
from netdsl.training.engines.onnxruntime_training.models import EngineModels, Forward, followed
from netdsl.training.models import initial_value

_ACCUMULATOR = "InPlaceAccumulatorV2"  # takes a buffer, a gradient, and whether to begin anew


@dataclass(frozen=True)
class OwnOptimizer:
    """`state` is what it begins with, by name; `directions` the model of an update."""

    state: Mapping[str, NDArrayAny]
    types: Mapping[str, TensorType]
    directions: ModelProto

    @classmethod
    def of(cls, models: EngineModels, trained: Mapping[str, int], forward: Forward) -> OwnOptimizer:
        """That of a recipe, for the parameters with gradients."""
        directions, made = models.directions(trained, forward.trained)
        held = [s for s in made.state if s.kind == "optimizer"]
        return cls({s.name: initial_value(s) for s in held}, {s.name: s.type for s in held}, directions)

    def declared(self, model: ModelProto) -> ModelProto:
        """The forward model with the state and, for the time being the same, its next values: so the package takes the
        one for parameters and keeps the other."""
        result = ModelProto()
        result.CopyFrom(model)
        graph = result.graph
        for name, array in self.state.items():
            graph.initializer.append(numpy_helper.from_array(array, name))
            graph.node.append(NodeProto(op_type="Identity", name=NEXT + name, input=[name], output=[NEXT + name]))
            graph.output.append(value_info(NEXT + name, self.types[name]))
        return result

    def fed(self, evaluation: ModelProto) -> ModelProto:
        """The evaluation with the state among its inputs: the package gives it every parameter."""
        result = ModelProto()
        result.CopyFrom(evaluation)
        result.graph.input.extend(value_info(name, self.types[name]) for name in self.state)
        return result

    def followed(self, training: ModelProto) -> ModelProto:
        """The training model with the update: directions for gradients, and the state's true next values."""
        following = {NEXT + name for name in self.state}
        made = {o.name for o in self.directions.graph.output}
        result = ModelProto()
        result.CopyFrom(training)
        graph = result.graph
        kept = [n for n in graph.node if n.output[0] not in following]
        del graph.node[:]
        graph.node.extend(kept)
        result = followed(result, self.directions)
        for node in result.graph.node:
            if node.op_type == _ACCUMULATOR:
                direction = DIRECTION + node.input[1].removesuffix("_grad")
                assert direction in made, f"no direction for {node.input[1]}"
                node.input[1] = direction
        nodes = ordered(list(result.graph.node))
        del result.graph.node[:]
        result.graph.node.extend(nodes)
        return result
