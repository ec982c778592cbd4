"""The engine's own artefacts, for its C++, C#, Java, Python and mobile APIs: `training_model.onnx`, `eval_model.onnx`,
`optimizer_model.onnx` and `checkpoint`, with a README.

The package generates them; netdsl gives it a model that it differentiates correctly, puts its own evaluation model in
the place of the generated one, whose batch norms could not run, and writes an IR version that the package reads.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from onnx import ModelProto, numpy_helper

from netdsl.autodiff.step import NEXT, SEED
from netdsl.diagnostics import DiagnosticError, error
from netdsl.files import atomic_write
from netdsl.ir.graph import Graph
from netdsl.ir.recipe import Recipe
from netdsl.ir.types import NDArrayAny
from netdsl.training.engines.onnxruntime_training.cuts import join
from netdsl.training.engines.onnxruntime_training.engine import check_recipe
from netdsl.training.engines.onnxruntime_training.environment import INSTALL, find_python
from netdsl.training.engines.onnxruntime_training.models import EngineModels, Forward
from netdsl.training.engines.onnxruntime_training.own_optimizer import OwnOptimizer
from netdsl.training.engines.onnxruntime_training.process import EngineFailure, EngineProcess
from netdsl.training.engines.onnxruntime_training.wire import blob
from netdsl.training.freezing import trained_since
from netdsl.training.models import LOSS, trainable_names

TRAINING, EVALUATION, OPTIMIZER, CHECKPOINT = (
    "training_model.onnx",
    "eval_model.onnx",
    "optimizer_model.onnx",
    "checkpoint",
)
_IR = 10  # the newest IR version that the package reads


def write_artefacts(recipe: Recipe, graph: Graph, weights: Mapping[str, NDArrayAny], folder: Path) -> list[Path]:
    """Writes the files and returns their paths; nothing is written unless all can be.

    Raises DiagnosticError for what the engine or its API cannot do, EnvironmentLack where it is not installed, OSError.
    """
    check_recipe(recipe, graph)
    _check_accumulation(recipe)
    models = EngineModels(recipe, graph)
    trained = trained_since(recipe, trainable_names(graph), 0)
    forward = models.forward(frozenset(trained))
    own = None if _native(recipe) else OwnOptimizer.of(models, trained, forward)
    process = EngineProcess(find_python("cpu"), f"{INSTALL} makes it anew")
    try:
        files = _generated(process, models, forward, weights, own)
    finally:
        process.close()
    files["README.md"] = _readme(recipe, ModelProto.FromString(files[TRAINING])).encode()
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        with atomic_write(folder / name) as stream:
            stream.write(data)
    return [folder / name for name in files]


def _native(recipe: Recipe) -> bool:
    """Whether the API has the optimizer: it has SGD without momentum or weight decay, and AdamW."""
    arguments, name = recipe.optimizer.arguments, recipe.optimizer.name
    plain = name == "sgd" and not arguments["momentum"] and not arguments["weight_decay"]
    return plain or name == "adamw" or (name == "adam" and not arguments["weight_decay"])


def _check_accumulation(recipe: Recipe) -> None:
    """The API adds gradients up after the training model, in which other optimizers than its own move on with every
    batch."""
    if _native(recipe) or recipe.accumulate == 1:
        return
    place = recipe.place
    name = recipe.optimizer.name
    message = f"with the API of onnxruntime-training, {name} with these arguments cannot accumulate gradients"
    help = (
        "leave out accumulate, or take adamw or sgd without momentum and weight decay; netdsl train --engine "
        "onnxruntime-training accumulates with every optimizer"
    )
    span, path = (place.span, place.path) if place else (None, "")
    raise DiagnosticError([error("engine-lacks-accumulation", message, span, path=path, help=help)])


def _generated(
    process: EngineProcess,
    models: EngineModels,
    forward: Forward,
    weights: Mapping[str, NDArrayAny],
    own: OwnOptimizer | None,
) -> dict[str, bytes]:
    recipe = models.recipe
    state = own.state if own else {}
    optimizer = {"name": "sgd"} if own else {"name": recipe.optimizer.name, **recipe.optimizer.arguments}
    model = _with_weights(forward.parts.model, weights)
    if own:
        model = own.declared(model)
    outputs = [o.name for o in forward.graph.outputs if o.name != LOSS]
    frozen = [n for n in (*weights, *state) if n not in forward.trained]
    with tempfile.TemporaryDirectory() as folder:
        try:
            process.ask(
                "artefacts",
                {"model": blob(model.SerializeToString())},
                folder=folder,
                trained=list(forward.trained),
                frozen=frozen,
                outputs=[*outputs, *(NEXT + name for name in state), *forward.parts.kept],
                optimizer=optimizer,
                clip_norm=None if own else recipe.clip_norm,
            )
        except EngineFailure as reason:
            message = f"onnxruntime-training cannot make its artefacts: {reason}"
            path = recipe.place.path if recipe.place else ""
            raise DiagnosticError([error("engine-failure", message, path=path)]) from None
        made = {name: (Path(folder) / name).read_bytes() for name in (TRAINING, OPTIMIZER, CHECKPOINT)}
    training = _without_unused_seed(join(ModelProto.FromString(made[TRAINING]), forward.parts))
    if own:
        training = own.followed(training)
    evaluation = models.evaluation().proto
    if own:
        evaluation = own.fed(evaluation)
    return {
        TRAINING: _readable(training),
        EVALUATION: _readable(evaluation),
        OPTIMIZER: _readable(ModelProto.FromString(made[OPTIMIZER])),
        CHECKPOINT: made[CHECKPOINT],
    }


def _with_weights(model: ModelProto, weights: Mapping[str, NDArrayAny]) -> ModelProto:
    """The parameters as initializers, which is how the package wants them."""
    result = ModelProto()
    result.CopyFrom(model)
    inputs = [i for i in model.graph.input if i.name not in weights]
    del result.graph.input[:]
    result.graph.input.extend(inputs)
    result.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), name) for name, a in weights.items())
    return result


def _without_unused_seed(model: ModelProto) -> ModelProto:
    """`seed` is an input of networks with dropout alone."""
    graph = model.graph
    if not any(SEED in node.input for node in graph.node):
        kept = [i for i in graph.input if i.name != SEED]
        del graph.input[:]
        graph.input.extend(kept)
    return model


def _readable(model: ModelProto) -> bytes:
    model.ir_version = min(model.ir_version, _IR)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _readme(recipe: Recipe, training: ModelProto) -> str:
    state = {i.name for i in training.graph.input if i.name.endswith(".accumulation.buffer")}
    names = [o.name for o in training.graph.output if not o.name.endswith(".accumulation.out")]
    moved = [n.removeprefix(NEXT) for n in names if n.startswith(NEXT)]
    lines = [
        f"# {recipe.network}: artefacts for onnxruntime-training 1.19.2",
        "",
        f"`{TRAINING}`, `{EVALUATION}`, `{OPTIMIZER}` and `{CHECKPOINT}` are what its `Module` and `Optimizer` load.",
        "",
        f"- {len(state)} parameters are trained. The outputs of a training step are, in this order: {_listed(names)}.",
        f"- Set the learning rate in every step, by the recipe's schedule ({recipe.schedule.name}).",
    ]
    if any(i.name == SEED for i in training.graph.input):
        lines.append(f"- `{SEED}` is an input of the training step: another number each time, for dropout's masks.")
    if moved:
        lines.append(
            f"- After each step copy every output `{NEXT}NAME` into the checkpoint state's parameter `NAME`: they are "
            "batch norm's running statistics, without which the evaluation is wrong, and the state of an optimizer "
            "that the package does not have."
        )
    if not _native(recipe):
        lines.append(
            f"- The optimizer is {recipe.optimizer.name}: the training model computes its direction in the place of "
            f"the gradient, clipped where the recipe says so, and `{OPTIMIZER}` subtracts it times the learning rate."
        )
    if recipe.accumulate > 1:
        lines.append(
            f"- The recipe accumulates {recipe.accumulate} batches. The API adds gradients up and does not average "
            f"them: divide the learning rate of SGD by {recipe.accumulate}."
        )
    return "\n".join([*lines, ""])


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
