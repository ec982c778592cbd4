"""What a model is only while it is differentiated: cut at stopped gradients, each of which becomes an input and is
computed again afterwards; with products in the place of Relu."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnx import ModelProto, NodeProto, ValueInfoProto

from netdsl.ir.graph import Graph
from netdsl.onnx.lower import value_info
from netdsl.training.engines.onnxruntime_training.operators import MaskedRelu, StopGradient


@dataclass(frozen=True)
class Cut:
    """A model without the nodes that stop gradients. `kept` are outputs that it has only so that they stay;
    `rectified` are the results of products that stand for Relu."""

    model: ModelProto
    joints: tuple[NodeProto, ...]
    kept: tuple[str, ...]
    rectified: frozenset[str]


def cut(model: ModelProto, source: Graph) -> Cut:
    """Cuts the model of a graph."""
    graph, wanted = model.graph, {info.name: info for info in stops(source)}
    joints = tuple(n for n in graph.node if n.output[0] in wanted)
    result = ModelProto()
    result.CopyFrom(model)
    body = result.graph
    del body.node[:]
    body.node.extend(n for n in graph.node if n.output[0] not in wanted)
    del body.value_info[:]
    body.value_info.extend(i for i in graph.value_info if i.name not in wanted)
    body.input.extend(wanted[n.output[0]] for n in joints)
    outer = {i.name for i in (*graph.input, *graph.output)} | {t.name for t in graph.initializer}
    infos = {i.name: i for i in graph.value_info}
    kept = tuple(dict.fromkeys(n.input[0] for n in joints if n.input[0] not in outer and n.input[0] not in wanted))
    body.output.extend(infos[name] for name in kept)
    rectified = frozenset(n.output.name for n in source.nodes if n.op.name == MaskedRelu.name)
    return Cut(result, joints, kept, rectified)


def join(model: ModelProto, parts: Cut) -> ModelProto:
    """The differentiated model with what was cut, its nodes in an order in which they can run."""
    made, kept = {n.output[0] for n in parts.joints}, set(parts.kept)
    result = ModelProto()
    result.CopyFrom(model)
    body = result.graph
    inputs = [i for i in model.graph.input if i.name not in made]
    outputs = [o for o in model.graph.output if o.name not in kept]
    nodes = ordered([*(_exact(n, parts.rectified) for n in model.graph.node), *parts.joints])
    for field, items in ((body.input, inputs), (body.output, outputs), (body.node, nodes)):
        del field[:]
        field.extend(items)
    return result


def _exact(node: NodeProto, rectified: frozenset[str]) -> NodeProto:
    """Relu, if the node is a product that stands for it."""
    if node.op_type != "Mul" or node.output[0] not in rectified:
        return node
    return NodeProto(op_type="Relu", name=node.name, input=node.input[:1], output=node.output)


def ordered(nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """Each node after those whose results it reads; otherwise in the order given."""
    makers = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    done, result = [False] * len(nodes), []
    for first in range(len(nodes)):
        stack = [first]
        while stack:
            at = stack[-1]
            missing = [] if done[at] else [m for m in _needs(nodes[at], makers) if not done[m]]
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            if not done[at]:
                done[at] = True
                result.append(nodes[at])
    return result


def _needs(node: NodeProto, makers: dict[str, int]) -> list[int]:
    names = [*node.input, *(name for a in node.attribute if a.HasField("g") for n in a.g.node for name in n.input)]
    return [makers[name] for name in names if name in makers]


def stops(graph: Graph) -> tuple[ValueInfoProto, ...]:
    """The values at which a graph's gradients stop, by their names and types in its model."""
    return tuple(value_info(n.output.name, n.output.type) for n in graph.nodes if n.op.name == StopGradient.name)
