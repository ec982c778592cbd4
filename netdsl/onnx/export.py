"""Graphs to ONNX: files with streamed weights, or models in memory."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onnx import ModelProto

from netdsl.ir.graph import Graph
from netdsl.ir.opdef import Target
from netdsl.onnx.emit import CPU
from netdsl.onnx.lower import lower_graph
from netdsl.onnx.write import in_memory, write_lowered
from netdsl.weights import ConstantEvaluator, WeightStore

OPSET = 21  #: the default


def write_model(
    graph: Graph,
    store: WeightStore,
    path: Path,
    *,
    opset: int = OPSET,
    external_data: bool | None = None,
    target: Target = CPU,
) -> None:
    """Writes `path`, the same to the byte for the same graph and weights; an old file stays whole until it is complete.

    `external_data` puts the weights into `path` + ".data"; None does so for models above 2 GB. No more than one weight,
    and those in the making (64 MB), is in memory. Raises OSError, and DiagnosticError for a damaged checkpoint or a
    symbol whose value no input determines.
    """
    with _collector_at_rest():
        write_lowered(lower_graph(graph, opset, target), ConstantEvaluator(graph, store), path, external_data)


def to_proto(graph: Graph, store: WeightStore, *, opset: int = OPSET, target: Target = CPU) -> ModelProto:
    """The model in memory. Raises ValueError above 2 GB, DiagnosticError as `write_model` does."""
    with _collector_at_rest():
        return in_memory(lower_graph(graph, opset, target), ConstantEvaluator(graph, store))


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Without the cyclic garbage collector, which would scan the growing model again and again and find nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
