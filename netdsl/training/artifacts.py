"""`netdsl compile --training`: a recipe as files that any ONNX Runtime trains with, and their documentation.

| file | content |
| --- | --- |
| `train_step.onnx` | one step: forward, loss, metrics, backward, update |
| `eval.onnx` | the loss and the metrics' statistics in inference mode |
| `init.safetensors` | the state before the first step |
| `init.onnx` | the same as the outputs of a model, which names the file for its data |
| `README.md` | every input and output of the models |
| `train.py`, `train.cpp` | a training loop with ONNX Runtime alone |

Where a recipe accumulates gradients, `train_step_first.onnx`, `train_step_middle.onnx` and `train_step_last.onnx` serve
the batches of a group; `train_step.onnx` a batch that is a group of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from netdsl.autodiff.step import NEXT, StateTensor
from netdsl.files import atomic_write
from netdsl.ir.dims import substitute
from netdsl.ir.graph import Graph
from netdsl.ir.recipe import METRICS
from netdsl.ir.types import NDArrayAny, TensorType
from netdsl.runtime.samples import choose_symbols
from netdsl.training.artifact_examples import ExampleBatch, cpp_example, python_example
from netdsl.training.freezing import trained_since
from netdsl.training.initial_model import initial_model
from netdsl.training.models import LOSS, RecipeModels, StepModel, initial_value, trainable_names
from netdsl.weights import SafetensorsCheckpoint, save_safetensors

STEP, EVALUATION, INITIAL, BEGIN = "train_step.onnx", "eval.onnx", "init.safetensors", "init.onnx"

_SCALARS = {
    "learning_rate": "the learning rate of this step; the recipe's schedule is the caller's to follow",
    "seed": "of dropout's masks: another number in every step",
    "gradient_share": "the part of the group's items that are in this batch",
}


def write_artifacts(models: RecipeModels, weights: Mapping[str, NDArrayAny], folder: Path) -> list[Path]:
    """Writes all files and returns their paths. `weights`: an array for every parameter and buffer.

    Raises OSError, and DiagnosticError where an operator has no gradient: then nothing is written.
    """
    evaluation, steps = models.evaluation(), dict(_steps(models))
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in {**steps, EVALUATION: evaluation}.items():
        _write(folder / name, model.proto.SerializeToString(deterministic=True))
    state = {s.name: s for model in steps.values() for s in model.step.state}
    arrays = {name: weights[name] if name in weights else initial_value(s) for name, s in state.items()}
    save_safetensors(folder / INITIAL, {name: s.type for name, s in state.items()}, arrays.__getitem__)
    begin = initial_model(SafetensorsCheckpoint(folder / INITIAL), models.opset)
    _write(folder / BEGIN, begin.SerializeToString(deterministic=True))
    batch = _example_batch(models)
    python, cpp = python_example(batch), cpp_example(batch)
    readme = _readme(models, steps, evaluation, state, python, cpp)
    for name, text in {"train.py": python, "train.cpp": cpp, "README.md": readme}.items():
        _write(folder / name, text.encode())
    return [folder / name for name in (*steps, EVALUATION, INITIAL, BEGIN, "README.md", "train.py", "train.cpp")]


def _write(path: Path, data: bytes) -> None:
    with atomic_write(path) as stream:
        stream.write(data)


def _steps(models: RecipeModels) -> Iterator[tuple[str, StepModel]]:
    """The models of a step by their files' names."""
    trained = trained_since(models.recipe, trainable_names(models.graph), 0)
    yield STEP, models.step(trained)
    if models.recipe.accumulate > 1:
        yield "train_step_first.onnx", models.step(trained, "first")
        yield "train_step_last.onnx", models.step(trained, "last")
    if models.recipe.accumulate > 2:
        yield "train_step_middle.onnx", models.step(trained, "middle")


def _example_batch(models: RecipeModels) -> ExampleBatch:
    graph, recipe = models.graph, models.recipe
    symbols = choose_symbols([graph])
    sizes = {**symbols, **{n: recipe.batch for v in graph.inputs for d in v.shape[:1] for n in symbols if str(d) == n}}
    types = {v.name: TensorType(v.dtype, tuple(substitute(d, sizes) for d in v.shape)) for v in graph.inputs}
    return ExampleBatch(types, recipe.classes, recipe.optimizer.lr)


# --- README ---------------------------------------------------------------------------------------------------------


def _readme(
    models: RecipeModels,
    steps: Mapping[str, StepModel],
    evaluation: StepModel,
    state: Mapping[str, StateTensor],
    python: str,
    cpp: str,
) -> str:
    recipe = models.recipe
    optimizer = ", ".join(f"{name}={value}" for name, value in recipe.optimizer.arguments.items())
    parts = [
        f"# Training {recipe.network} with ONNX Runtime",
        _ABOUT.format(models.opset, f"{recipe.optimizer.name}({optimizer})", recipe.schedule.name, recipe.batch),
        _STATE,
        *(part for name, model in steps.items() for part in _described(f"`{name}`", model, models, state)),
        *_described(f"`{EVALUATION}`: the loss and the metrics in inference mode", evaluation, models, state),
        f"## Python: `train.py`\n\n```python\n{python}```",
        f"## C++: `train.cpp`\n\n```cpp\n{cpp}```",
    ]
    if recipe.accumulate > 1:
        parts.insert(3, _GROUPS.format(count=recipe.accumulate))
    return "\n\n".join(parts) + "\n"


_ABOUT = """\
Written by netdsl. The models hold standard ONNX operators of opset {} alone.

- optimizer: `{}`
- schedule, for the caller to follow: `{}`
- items in a batch: {}"""

_STATE = f"""\
## The state

Weights, moving averages and the optimizer's state are *inputs* `NAME` of a step, and where it changes them *outputs*
`{NEXT}NAME`. `{INITIAL}` holds their values before the first step, under `NAME`; `{BEGIN}`, which has no inputs, gives
them as its outputs. A loop feeds each output `{NEXT}NAME` to the next step as `NAME`: as a tensor of the runtime, which
is not copied.

Where the state lives on another device, or memory is scarce, keep two buffers for each tensor that changes, and two
sets of bindings: in one step it is read from the first and written to the second, in the next step the other way round.
Never bind an output to the buffer of its own input: an operator may read a weight after its update."""

_GROUPS = """\
## Accumulated gradients

An update takes a group of {count} batches. The first batch of a group goes to `train_step_first.onnx`, the last to
`train_step_last.onnx`, those between to `train_step_middle.onnx`; `train_step.onnx` serves a group of one batch."""


def _described(title: str, model: StepModel, models: RecipeModels, state: Mapping[str, StateTensor]) -> Iterator[str]:
    """A heading, a table of inputs and one of outputs."""
    graph = model.graph
    targets = models.recipe.targets
    yield f"## {title}"
    rows = [(v.name, v.type, _input_meaning(v.name, state, targets, models.graph)) for v in graph.inputs]
    yield "### Inputs\n\n" + _table(rows)
    results = _result_meanings(models)
    outs = [(o.name, o.value.type, results.get(o.name) or _next_meaning(o.name, state)) for o in graph.outputs]
    yield "### Outputs\n\n" + _table(outs)


def _table(rows: list[tuple[str, TensorType, str]]) -> str:
    lines = ["| name | type and shape | meaning |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| `{name}` | `{type}` | {meaning} |" for name, type, meaning in rows)])


def _input_meaning(name: str, state: Mapping[str, StateTensor], targets: Mapping[str, TensorType], graph: Graph) -> str:
    if name in state:
        return _state_meaning(name, state[name])
    if name in targets:
        return "target"
    return "input of the network" if any(v.name == name for v in graph.inputs) else _SCALARS.get(name, "")


def _state_meaning(name: str, tensor: StateTensor) -> str:
    if tensor.kind == "buffer":
        return "moving average of the network"
    if tensor.kind == "parameter":
        return "weight"
    _, _, rest = name.partition("/")
    owner, _, kind = rest.partition("/")
    if name.startswith("accumulated/"):
        return f"gradient of `{rest}`, accumulated"
    return f"the optimizer's {kind} of `{owner}`" if kind else f"the optimizer's {name.rpartition('/')[2]}"


def _next_meaning(name: str, state: Mapping[str, StateTensor]) -> str:
    held = name.removeprefix(NEXT)
    what = _state_meaning(held, state[held]) if held in state else f"gradient of `{held.partition('/')[2]}`"
    return f"after the step: {what}"


def _result_meanings(models: RecipeModels) -> dict[str, str]:
    """Of the loss and the statistics: how those of several batches become one number."""
    joined = {"sum": "add them up over batches", "concat": "join them along axis 0", "mean": "average them by items"}
    found = {LOSS: "the mean loss over the batch"}
    for spec in models.recipe.metrics:
        for name, role in zip(spec.statistics, METRICS[spec.kind].statistics, strict=True):
            found[name] = f"`{role}` of the metric `{spec.name}` ({spec.kind}): {joined[spec.reduce]}"
    return found
