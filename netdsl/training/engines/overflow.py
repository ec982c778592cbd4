"""Finds the layer in which NaN or infinity began: the forward pass again, with every value as an output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from netdsl.autodiff.extend import Extension
from netdsl.autodiff.precision import to_mixed
from netdsl.autodiff.training_mode import to_training
from netdsl.ir.graph import Graph, Node, Output, Value
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.onnx.export import to_proto
from netdsl.passes.dead_code import DeadCode
from netdsl.passes.log import RewriteLog
from netdsl.passes.pipelines import run_passes
from netdsl.runtime.session import Session
from netdsl.training.models import LOSS, RecipeModels
from netdsl.weights import WeightStore

SEED = "seed"


@dataclass(frozen=True)
class OverflowSearch:
    """One search. `trained` are the parameters of the step, on which batch norms depend."""

    models: RecipeModels
    trained: frozenset[str]
    device: str

    def explain(self, batch: Mapping[str, NDArrayAny], weights: Mapping[str, NDArrayAny]) -> str:
        """A sentence on the first value that is not finite; empty where there is none."""
        bad = next((name for name, array in weights.items() if not _finite(array)), None)
        if bad is not None:
            return f"{bad}: the last update made this weight {_kind(weights[bad])}"
        graph, watched = self._watched()
        inputs = {**batch, **weights, SEED: np.asarray(0, np.int64)}
        proto = to_proto(graph, WeightStore(()), opset=self.models.opset, target=self.models.target)
        session = Session(proto.SerializeToString(), self.device)
        arrays = session.run({name: inputs[name] for name in session.inputs})
        return next(_sentences(graph, watched, {**inputs, **arrays}), "")

    def _watched(self) -> tuple[Graph, dict[Value, str]]:
        """The forward pass in training mode; every float in it is an output, by the name given."""
        source = to_mixed(self.models.graph, DType[self.models.recipe.precision])
        extension = Extension(source)
        seed = Value(extension.names.take(SEED), TensorType(DType.int64, ()))
        trained = frozenset(p.value for p in source.parameters if p.name in self.trained)
        form = to_training(extension, source.nodes, seed, trained)
        loss = next(form.values.get(o.value, o.value) for o in source.outputs if o.name == LOSS)
        inputs = (*source.inputs, seed, *(p.value for p in source.parameters))
        whole = Graph(source.name, inputs, (Output(LOSS, loss),), tuple(extension.nodes), ())
        used = run_passes(whole, (DeadCode(),), RewriteLog())
        made = [v for node in used.nodes if node.inputs for v in node.outputs if v.dtype.is_float]
        names = {value: f"watched/{number}" for number, value in enumerate(made)}
        outputs = tuple(Output(name, value) for value, name in names.items())
        names |= {v: v.name for v in inputs}
        return Graph(used.name, used.inputs, outputs, used.nodes, ()), names


def _sentences(graph: Graph, names: Mapping[Value, str], arrays: Mapping[str, NDArrayAny]) -> Iterator[str]:
    """One for each node whose inputs are finite and whose outputs are not, in the order in which they run."""
    for node in graph.nodes:
        outputs = [arrays[names[v]] for v in node.outputs if v in names]
        wrong = next((array for array in outputs if not _finite(array)), None)
        if wrong is not None:
            inputs = [arrays[names[v]] for v in node.inputs if v in names]
            if all(_finite(array) for array in inputs):
                yield _sentence(node, wrong, inputs)


def _sentence(node: Node, wrong: NDArrayAny, inputs: list[NDArrayAny]) -> str:
    flat = np.isfinite(_wide(wrong)).reshape(-1)
    at = ", ".join(str(int(i)) for i in np.unravel_index(int(np.argmin(flat)), wrong.shape))
    where = f"{node.path} ({node.place})" if node.place else node.path
    sizes = [float(np.abs(array).max()) for array in inputs if array.size and array.dtype.kind == "f"]
    largest = f"; its inputs are finite, at most {max(sizes):.4g} in magnitude" if sizes else ""
    return f"{where}: the output of {node.op.name} is {_kind(wrong)}, first at [{at}]{largest}"


def _finite(array: NDArrayAny) -> bool:
    return array.dtype.kind in "iub" or bool(np.isfinite(_wide(array)).all())


def _wide(array: NDArrayAny) -> NDArrayAny:
    """bfloat16 is no element type of NumPy's own."""
    return array.astype(np.float32) if array.dtype.kind == "V" else array


def _kind(array: NDArrayAny) -> str:
    return "NaN" if np.isnan(_wide(array)).any() else "infinite"
