"""The Python API: `compile` and `compile_source` give a `Model`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netdsl.diagnostics import Diagnostic
from netdsl.elaborate import elaborate
from netdsl.ir.graph import Graph
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.onnx.export import to_proto, write_model
from netdsl.onnx.precision import to_precision
from netdsl.passes import RewriteLog, optimize
from netdsl.passes.equal_weights import EqualWeights
from netdsl.report.formats import as_object
from netdsl.report.model import analyse
from netdsl.report.training import training_peak
from netdsl.runtime.session import Session
from netdsl.runtime.verify import TOLERANCES, Comparison, compare
from netdsl.source import SourceFile
from netdsl.syntax.read import read_source
from netdsl.weights import WeightStore, load_checkpoint

if TYPE_CHECKING:
    import onnx

OPSETS = range(17, 27)
LEVELS = (0, 1, 2)
PRECISIONS = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, eq=False)
class Model:
    """A compiled network.

    `source_graph` is what the program says, `graph` what is exported, after the rewrites in `log`. `warnings` are the
    program's. Weights are drawn, or read from a checkpoint, when they are first needed. `training_peak` gives the bytes
    that a step of the program's recipe takes, None without one.
    """

    source_graph: Graph
    graph: Graph
    store: WeightStore
    opset: int = 21
    precision: DType = DType.float32
    log: RewriteLog = field(default_factory=RewriteLog)
    warnings: tuple[Diagnostic, ...] = ()
    training_peak: Callable[[], int | None] = lambda: None

    @property
    def name(self) -> str:
        """The network's name."""
        return self.graph.name

    @property
    def inputs(self) -> dict[str, TensorType]:
        """Element type and shape of each input, by name; shapes hold integers and symbols."""
        return {v.name: v.type for v in self.graph.inputs}

    @property
    def outputs(self) -> dict[str, TensorType]:
        """Element type and shape of each output, by name."""
        return {o.name: o.value.type for o in self.graph.outputs}

    @cached_property
    def proto(self) -> onnx.ModelProto:
        """The ONNX model with its weights in memory. Raises ValueError above 2 GB: `save` has no such limit."""
        return to_proto(self.graph, self.store, opset=self.opset)

    def save(self, path: str | PathLike[str], *, external_data: bool | None = None) -> None:
        """Writes the ONNX file; an old file stays whole until the new one is complete.

        `external_data` puts the weights into a file beside it, `path` + ".data"; None does so where they exceed 2 GB.
        Raises OSError.
        """
        write_model(self.graph, self.store, Path(path), opset=self.opset, external_data=external_data)

    @cached_property
    def session(self) -> Session:
        """ONNX Runtime's session on the device that it finds. Raises EnvironmentLack without ONNX Runtime."""
        return self.open()

    def open(self, device: str = "auto") -> Session:
        """A session on `device`: "cpu", "cuda" or "auto". Raises EnvironmentLack where there is none.

        The model goes through a temporary file: one above 2 GB fits into no message in memory.
        """
        with tempfile.TemporaryDirectory(prefix="netdsl-") as folder:
            path = Path(folder) / "model.onnx"
            self.save(path)
            return Session(path, device)

    def run(self, inputs: Mapping[str, NDArrayAny]) -> dict[str, NDArrayAny]:
        """The outputs by name for an array for each input, of the element types and shapes of `inputs`.

        Raises ValueError for arrays that do not fit and EnvironmentLack without ONNX Runtime.
        """
        return self.session.run(inputs)

    def report(self) -> dict[str, Any]:
        """Parameters, MACs, FLOPs, memory, receptive fields: the object of `netdsl report --format json`."""
        return as_object(analyse(self.source_graph, self.training_peak()))

    def verify(self) -> Comparison:
        """Runs the graph before and after the rewrites on random inputs, and compares the outputs.

        Runs the operators' NumPy rules where ONNX Runtime is not installed.
        """
        tolerance = TOLERANCES[self.precision] if self.precision is not DType.float32 else None
        return compare(self.source_graph, self.graph, self.store, tolerance=tolerance, opset=self.opset)


def compile(
    source: str | PathLike[str],
    *,
    network: str | None = None,
    set: Mapping[str, object] | None = None,
    weights: str | PathLike[str] | None = None,
    seed: int = 0,
    opset: int = 21,
    level: int = 2,
    precision: str = "float32",
) -> Model:
    """Compiles a network of a `.net` file.

    `network` is its name; the last of the file by default. `set` overrides the network's parameters and gives symbols
    values: `set={"classes": 10, "N": 8}`; a string is an expression of the language, else text. `weights` is a
    checkpoint (`.safetensors`, `.npz`, `.onnx`); without it weights are drawn from `seed`. `opset` is ONNX's, 17 to 26;
    `level` 0 for no rewrites, 1 for clean-ups and batch-norm folding, 2 for all that lowers the cost; `precision` the
    element type of the exported floats: "float32", "float16" or "bfloat16".

    Raises DiagnosticError where the program or the checkpoint has errors, UsageError for a name in `set` or a network
    that the file does not have, ValueError for an option out of range.
    """
    settings = set or {}
    return _compile(read_source(fspath(source)), network, settings, weights, seed, opset, level, precision)


def compile_source(
    text: str,
    *,
    name: str = "<text>",
    network: str | None = None,
    set: Mapping[str, object] | None = None,
    weights: str | PathLike[str] | None = None,
    seed: int = 0,
    opset: int = 21,
    level: int = 2,
    precision: str = "float32",
) -> Model:
    """Compiles a program given as text, which diagnostics call `name`; imports are relative to the working directory.

    The other options, and the errors, are those of `compile`.
    """
    return _compile(SourceFile(name, text), network, set or {}, weights, seed, opset, level, precision)


def _compile(
    source: SourceFile,
    network: str | None,
    settings: Mapping[str, object],
    weights: str | PathLike[str] | None,
    seed: int,
    opset: int,
    level: int,
    precision: str,
) -> Model:
    _require("opset", opset, OPSETS, "17 to 26")
    _require("level", level, LEVELS, "0, 1 or 2")
    _require("precision", precision, PRECISIONS, ", ".join(PRECISIONS))
    made = elaborate(source, network=network, settings=settings)
    checkpoint = load_checkpoint(Path(weights)) if weights is not None else None
    store = WeightStore(made.graph.parameters, seed=seed, checkpoint=checkpoint)
    log = RewriteLog()
    dtype = DType(precision)
    graph = EqualWeights(store).run(made.graph, log) if level == 2 else made.graph
    graph = to_precision(optimize(graph, level, log), dtype)
    return Model(
        made.graph, graph, store, opset, dtype, log, made.warnings, partial(training_peak, source, made, settings)
    )


def _require(name: str, value: object, allowed: Container[object], words: str) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; it may be {words}")
