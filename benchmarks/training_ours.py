"""netdsl's side of `training.py`: one measurement per process, printed as JSON.

    python benchmarks/training_ours.py init NETWORK FILE.npz [SEED]
    python benchmarks/training_ours.py timed NETWORK FILE.npz THREADS
    python benchmarks/training_ours.py exported NETWORK FILE.npz THREADS
    python benchmarks/training_ours.py losses NETWORK FILE.npz [OPTIMIZER]
    python benchmarks/training_ours.py gradients NETWORK FILE.npz OUT.npz
    python benchmarks/training_ours.py profile NETWORK FILE.npz THREADS
    python benchmarks/training_ours.py build PROGRAM.net

NETWORK is a name of `training_cases.NETWORKS`, or `loss:NAME`. `FILE.npz` holds the weights and one batch.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto
from training_cases import LOSSES, NETWORKS, OPTIMIZERS, STEPS, Network, loss_program

from netdsl.autodiff.in_place import in_place_state
from netdsl.autodiff.step import NEXT, StepGraph, StepOptions, build_step
from netdsl.elaborate import ElaboratedRecipe, elaborate_recipe
from netdsl.ir.dims import evaluate
from netdsl.ir.graph import Graph, Parameter, Value
from netdsl.ir.opdef import Target
from netdsl.ir.recipe import OptimizerSpec
from netdsl.onnx.export import to_proto
from netdsl.passes.log import RewriteLog
from netdsl.passes.pipelines import TRAINING, run_passes
from netdsl.runtime.blocked_layout import channel_block
from netdsl.runtime.stepper import DeviceState, Stepper
from netdsl.source import SourceFile
from netdsl.weights import WeightStore


def network_of(name: str) -> Network:
    return Network("", batch=16, rate=0.01) if name.startswith("loss:") else NETWORKS[name]


def recipe_of(name: str, **settings: Any) -> ElaboratedRecipe:
    network = network_of(name)
    source = loss_program(name[5:]) if name.startswith("loss:") else network.source()
    return elaborate_recipe(SourceFile(f"{name}.net", source), settings={**network.settings, **settings})


def step_of(made: ElaboratedRecipe, spec: OptimizerSpec | None = None, **options: Any) -> StepGraph:
    optimizer = spec or made.recipe.optimizer
    trainable = frozenset(p.name for p in made.graph.parameters if p.kind == "parameter")
    return build_step(made.graph, StepOptions(optimizer.name, optimizer.arguments, trainable, **options), ["loss"])


def lowered(step: StepGraph, batch: int, threads: int = 1, standard: bool = False) -> tuple[Graph, ModelProto]:
    """As `netdsl train` runs it, or in standard operators, as `netdsl compile --training` writes it."""
    graph = run_passes(step.graph, TRAINING, RewriteLog())
    block = 0 if standard else channel_block()
    target = Target("cpu", threads, certain=True, batch=batch, block=block)
    return graph, to_proto(graph, WeightStore(()), target=target)


def init(name: str, file: str, seed: int = 0) -> dict[str, Any]:
    """Weights as netdsl draws them, and a random batch."""
    made, rng = recipe_of(name), np.random.default_rng(seed)
    store = WeightStore(made.graph.parameters)
    arrays = {p.name: np.asarray(store.array(p)) for p in made.graph.parameters}
    kind = LOSSES[name[5:]][1] if name.startswith("loss:") else "ids"
    for value in made.graph.inputs:
        shape = [evaluate(d, {"N": network_of(name).batch}) for d in value.shape]
        arrays[f"batch/{value.name}"] = drawn(value, shape, kind, rng, network_of(name).ids)
    np.savez(file, **arrays)
    return {"parameters": sum(a.size for n, a in arrays.items() if not n.startswith("batch/"))}


def drawn(value: Value, shape: list[int], kind: str, rng: np.random.Generator, ids: int | None) -> Any:
    if not value.dtype.is_float:
        return rng.integers(0, ids or (2 if len(shape) > 1 else 6), shape)
    numbers = rng.normal(size=shape).astype("f")
    if value.name == "image" or kind == "numbers":
        return numbers
    if kind == "binary":
        return (numbers > 0).astype("f")
    return np.exp(numbers) / np.exp(numbers).sum(1, keepdims=True)


def stepper_of(step: StepGraph, arrays: dict[str, Any], batch: int, threads: int, standard: bool = False) -> Stepper:
    """Takes the weights out of `arrays`, one after the other."""
    graph, model = lowered(step, batch, threads, standard)
    once = in_place_state(graph, NEXT)
    changed = {o.name.removeprefix(NEXT) for o in graph.outputs if o.name.startswith(NEXT)} - once
    state = DeviceState({}, device="cpu")
    for tensor in step.state:
        found = arrays.pop(tensor.name, None)
        if found is None:
            parameter = Parameter(Value(tensor.name, tensor.type), tensor.initial)
            found = np.array(WeightStore([parameter]).array(parameter))
        state.add({tensor.name: found}, changed & {tensor.name})
    return Stepper(model.SerializeToString(), state, step.results, threads)


def inputs_of(arrays: dict[str, Any], rate: float) -> dict[str, Any]:
    batch = {n.removeprefix("batch/"): np.ascontiguousarray(a) for n, a in arrays.items() if n.startswith("batch/")}
    return {**batch, "learning_rate": np.asarray(rate, np.float32), "seed": np.asarray(0, np.int64)}


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def exported(name: str, file: str, threads: int) -> dict[str, Any]:
    return timed(name, file, threads, standard=True)


def timed(name: str, file: str, threads: int, standard: bool = False) -> dict[str, Any]:
    arrays, network = dict(np.load(file)), network_of(name)
    before = peak()
    stepper = stepper_of(step_of(recipe_of(name)), arrays, network.batch, threads, standard)
    inputs = inputs_of(arrays, 1e-4)
    del arrays
    seconds = []
    for _ in range(network.timed + 2):
        start = time.perf_counter()
        stepper.run(inputs)
        seconds.append(time.perf_counter() - start)
    return {"ms": min(seconds[2:]) * 1e3, "peak": peak() - before}


def losses(name: str, file: str, optimizer: str = "sgd momentum") -> dict[str, Any]:
    kind, given, rate = OPTIMIZERS[optimizer]
    if not name.startswith("loss:") and optimizer == "sgd momentum":
        rate = network_of(name).rate
    arrays = dict(np.load(file))
    step = step_of(recipe_of(name), OptimizerSpec.of(kind, given))
    stepper = stepper_of(step, arrays, network_of(name).batch, 1)
    return {"losses": [float(stepper.run(inputs_of(arrays, rate))["loss"]) for _ in range(STEPS)]}


def gradients(name: str, file: str, out: str) -> dict[str, Any]:
    """The gradients as the step computes them: the first part of an accumulated group gives them out. The activation is
    smooth, since a ReLU that falls on the other side of 0 in float32 makes either side's gradient jump."""
    arrays = dict(np.load(file))
    settings = {} if name.startswith("loss:") or network_of(name).ids else {"activation": "silu"}
    step = step_of(recipe_of(name, **settings), phase="first")
    _, model = lowered(step, network_of(name).batch)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # what the model was made for
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    inputs = {**arrays, **inputs_of(arrays, 0.0), "gradient_share": np.asarray(1, np.float32)}
    names = [o.name for o in session.get_outputs() if "accumulated/" in o.name]
    found = session.run(names, {i.name: inputs[i.name] for i in session.get_inputs()})
    np.savez(out, **{n.split("accumulated/")[1]: a for n, a in zip(names, found, strict=True)})
    return {}


def profile(name: str, file: str, threads: int) -> dict[str, Any]:
    """Milliseconds of one step by ONNX operator, and by layer and operator: the ten slowest each."""
    arrays = dict(np.load(file))
    step = step_of(recipe_of(name))
    _, model = lowered(step, network_of(name).batch, threads)
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.intra_op_num_threads = True, threads
    options.profile_file_prefix = str(Path(file).with_suffix(""))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    zeros = {s.name: np.zeros([evaluate(d, {}) for d in s.type.shape], np.float32) for s in step.state}
    inputs = {**zeros, **arrays, **inputs_of(arrays, 1e-4)}
    runs = 6
    for _ in range(runs):
        session.run(None, {i.name: inputs[i.name] for i in session.get_inputs()})
    events = [e for e in json.loads(Path(session.end_profiling()).read_text()) if e["name"].endswith("_kernel_time")]
    by_op, by_node, by_part = Counter[str](), Counter[str](), Counter[str]()
    counts = Counter[str](e["args"]["op_name"] for e in events)
    for event in events[len(events) // runs :]:
        op = event["args"]["op_name"]
        by_op[op] += event["dur"] / 1e3 / (runs - 1)
        by_node[f"{event['name'].removesuffix('_kernel_time')} {op}"] += event["dur"] / 1e3 / (runs - 1)
        by_part[part_of(event["name"])] += event["dur"] / 1e3 / (runs - 1)
    return {
        "total": sum(by_op.values()),
        "parts": {part: round(ms, 2) for part, ms in by_part.most_common()},
        "operators": {f"{op} x{counts[op] // runs}": round(ms, 2) for op, ms in by_op.most_common(14)},
        "nodes": {node: round(ms, 2) for node, ms in by_node.most_common(14)},
    }


def part_of(node: str) -> str:
    for part in ("gradient", "update", "optimizer", "recompute"):
        if f".{part}" in node or node.startswith(part):
            return part
    return "forward"


def build(program: str) -> dict[str, Any]:
    """Seconds from the program's text to the step graph, and on to the ONNX model."""
    source = Path(program).read_text()
    if "train " not in source:
        source += (
            "train ResNet50 { target t: int64[N] loss = cross_entropy(logits, t) optimizer = sgd(0.1, momentum=0.9) }"
        )
    start = time.perf_counter()
    step = step_of(elaborate_recipe(SourceFile(program, source)))
    graph = run_passes(step.graph, TRAINING, RewriteLog())
    middle = time.perf_counter()
    model = to_proto(graph, WeightStore(()))
    return {"graph": middle - start, "model": time.perf_counter() - start, "nodes": len(model.graph.node)}


def main() -> None:
    command, *given = sys.argv[1:]
    arguments: list[Any] = [int(a) if a.isdigit() else a for a in given]
    commands = (init, timed, exported, losses, gradients, profile, build)
    chosen: Any = next(c for c in commands if c.__name__ == command)
    print(json.dumps(chosen(*arguments)))


if __name__ == "__main__":
    main()
