"""The same recipe by both engines: losses, checkpoints, optimizers, and the package's own loop over its artefacts."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from netdsl.ir.recipe import Recipe
from netdsl.onnx.export import to_proto
from netdsl.passes import optimize
from netdsl.runtime.session import Session
from netdsl.syntax.read import read_source
from netdsl.training.checkpoint import save_weights
from netdsl.training.engines.onnxruntime_training.artefacts import write_artefacts
from netdsl.training.engines.onnxruntime_training.models import EngineModels
from netdsl.training.initial import initial_weights
from netdsl.training.job import Job, make_job
from netdsl.weights import WeightStore, load_checkpoint
from tests.training.engine_ort.networks import batch_of, engines, job_of, small

ROOT = Path(__file__).parents[3]
BARE_LOOP = Path(__file__).with_name("bare_loop.py")
STEPS = 20
TOLERANCE = 1e-4

#: the file, the items of a batch, the classes, the rate: small, since a high one makes any two engines part by chaos
NETWORKS = {
    "lenet5": ("examples/lenet5.net", 16, 10, 0.02, {}),
    "resnet": ("examples/resnet_digits.net", 16, 10, 0.005, {}),
    "mobilenet_v2": ("benchmarks/networks/mobilenet_v2.net", 8, 10, 2e-6, {}),
    "unet": ("examples/unet_denoise.net", 2, 2, 2e-4, {"h": "4", "w": "4"}),
    "char_lstm": ("examples/char_lstm.net", 4, 128, 1e-3, {}),
    "gru_generator": ("examples/gru_generator.net", 4, 128, 1e-4, {}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_losses_of_twenty_steps(engine: Path, name: str) -> None:
    path, items, classes, rate, settings = NETWORKS[name]
    job = make_job(read_source(ROOT / path), settings=settings)
    batches = [batch_of(job, items, seed, classes) for seed in range(3)]
    standard, other = engines(job)
    try:
        for number in range(STEPS):
            batch = batches[number % len(batches)]
            one, two = (e.step(batch, rate=rate, seed=number) for e in (standard, other))
            assert abs(one.loss - two.loss) < TOLERANCE, f"step {number}: {one.loss} and {two.loss}"
            for key, value in one.statistics.items():
                np.testing.assert_allclose(two.statistics[key], value, rtol=1e-3, atol=1e-3, err_msg=key)
        held = [e.evaluate(batches[0]).loss for e in (standard, other)]
        assert held[0] == pytest.approx(held[1], abs=2e-4)
    finally:
        standard.close()
        other.close()


@pytest.mark.parametrize(
    "optimizer",
    [
        "sgd(0.05)",
        "sgd(0.05, momentum=0.9, nesterov=true, weight_decay=1e-3)",
        "adam(0.002, weight_decay=1e-3)",
        "adamw(0.002, weight_decay=0.1)",
        "adagrad(0.01)",
        "adadelta(0.5)",
        "rmsprop(0.001, momentum=0.5, centered=true)",
    ],
)
def test_every_optimizer_with_clipping(engine: Path, optimizer: str) -> None:
    job = small(optimizer=optimizer, more="clip_norm = 0.5")
    rate = float(optimizer.split("(")[1].split(",")[0].rstrip(")"))
    standard, other = engines(job)
    batch = batch_of(job)
    for number in range(6):
        losses = [e.step(batch, rate=rate, seed=number).loss for e in (standard, other)]
        assert losses[0] == pytest.approx(losses[1], abs=TOLERANCE)
    one, two = standard.state(), other.state()
    assert sorted(one) == sorted(two)
    for name, array in one.items():
        np.testing.assert_allclose(two[name], array, rtol=5e-3, atol=2e-4, err_msg=name)
    standard.close()
    other.close()


INFINITE = """
network Shifted {
    input image: float32[N, 4]
    param shift: float32[4] = zeros()
    output y = (image + shift) -> relu
}
train Shifted { target label: float32[N, 4]  loss = mse(y, label)  optimizer = sgd(0.1) }
"""


def test_relu_of_minus_infinity_is_zero(engine: Path) -> None:
    job = job_of(INFINITE)
    batch = batch_of(job)
    batch["image"][0] = -np.inf
    standard, other = engines(job)
    for number in range(3):
        losses = [e.step(batch, rate=0.1, seed=number).loss for e in (standard, other)]
        assert np.isfinite(losses).all() and losses[0] == pytest.approx(losses[1], abs=1e-6)
    np.testing.assert_allclose(other.state()["shift"], standard.state()["shift"], atol=1e-6)
    standard.close()
    other.close()


def test_accumulation_equals_that_of_the_standard_engine(engine: Path) -> None:
    job = small(dropout=0.0, more="accumulate = 3")
    standard, other = engines(job)
    for e in (standard, other):
        for number, phase in enumerate(("first", "middle", "last", "first", "last", "only")):
            e.step(batch_of(job, seed=number), rate=0.05, seed=number, phase=phase, share=0.4)  # type: ignore[arg-type]  # the phases
    one, two = standard.state(), other.state()
    for name in standard.weights:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-3, atol=1e-5, err_msg=name)
    standard.close()
    other.close()


def test_frozen_layers_stay_and_their_norms_keep_their_statistics(engine: Path) -> None:
    job = small(dropout=0.0)
    standard, other = engines(job)
    for e in (standard, other):
        e.step(batch_of(job), rate=0.05, seed=0)
        before = {name: np.array(a) for name, a in e.state().items()}
        e.rebuild({n: 0 for n in e.trainable if n.startswith(("first", "head"))})  # the norm between them is frozen
        e.step(batch_of(job), rate=0.05, seed=1)
        after = e.state()
        for name in ("bn.weight", "bn.running_mean", "bn.running_var", "second.weight"):
            np.testing.assert_array_equal(after[name], before[name])
        assert not np.array_equal(after["first.weight"], before["first.weight"])
    one, two = standard.state(), other.state()
    assert sorted(one) == sorted(two)
    np.testing.assert_allclose(two["first.weight"], one["first.weight"], atol=1e-5)  # through the folded norm
    standard.close()
    other.close()


def test_a_checkpoint_of_one_engine_continues_in_the_other(engine: Path) -> None:
    job = small()
    standard, other = engines(job)
    batches = [batch_of(job, seed=s) for s in range(8)]
    for e in (standard, other):
        for number in range(4):
            e.step(batches[number], rate=0.05, seed=number)
    states = [{n: np.array(a) for n, a in e.state().items()} for e in (standard, other)]
    standard.load(states[1])
    other.load(states[0])
    for number in range(4, 8):
        losses = [e.step(batches[number], rate=0.05, seed=number).loss for e in (standard, other)]
        assert losses[0] == pytest.approx(losses[1], abs=TOLERANCE)
    standard.close()
    other.close()


def test_the_same_calls_give_the_same_bits(engine: Path) -> None:
    job = small()
    found = []
    for _ in range(2):
        standard, other = engines(job)
        standard.close()
        for number in range(4):
            other.step(batch_of(job, seed=number), rate=0.05, seed=number)
        found.append(other.state())
        other.close()
    for name, array in found[0].items():
        np.testing.assert_array_equal(found[1][name], array)


DECOMPOSED = """
network Layers {
    input x: float32[N, 4, 12, 12]
    y = x -> conv_transpose(6, 2, stride=2) -> group_norm(2) -> elu
    y = y -> conv_transpose(4, 3, stride=2, padding=1, output_padding=1) -> instance_norm -> mish
    y = y -> avg_pool(3, stride=2, padding=1) -> resize(scale=2, mode="bilinear") -> prelu
    y = y -> pad(1, mode="reflect") -> conv(8, 3) -> batch_norm -> hard_swish -> pixel_shuffle(2) -> softplus
    output y = y -> switchable_norm -> global_max_pool -> flatten -> layer_norm -> dense(3)
}
train Layers {
    target t: float32[N, 3]
    loss = huber(y, t)
    optimizer = sgd(0.01)
}
"""


def test_layers_by_decomposition(engine: Path) -> None:
    job = job_of(DECOMPOSED)
    standard, other = engines(job)
    batch = batch_of(job, 4)
    for number in range(5):
        losses = [e.step(batch, rate=0.01, seed=number).loss for e in (standard, other)]
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    one, two = standard.state(), other.state()
    for name, array in one.items():
        np.testing.assert_allclose(two[name], array, rtol=1e-3, atol=2e-5, err_msg=name)
    standard.close()
    other.close()


@pytest.mark.parametrize(
    "optimizer",
    [
        "sgd(0.002)",
        "adamw(0.002, weight_decay=0.1)",
        "adam(0.002)",
        "adam(0.002, weight_decay=0.01)",
        "sgd(0.002, momentum=0.9, nesterov=true, weight_decay=0.01)",
        "rmsprop(0.002, momentum=0.5, centered=true)",
        "adagrad(0.002, lr_decay=0.1)",
        "adadelta(0.002)",
    ],
)
def test_artefacts_in_the_loop_of_the_package(engine: Path, tmp_path: Path, optimizer: str) -> None:
    """The bare Module and Optimizer, in a program that uses nothing of netdsl, trains as `netdsl train` does."""
    job = small(activation="hard_swish", optimizer=optimizer, more="clip_norm = 1.0")
    batch = batch_of(job)
    weights = initial_weights(job.recipe, job.graph, Path())
    written = write_artefacts(job.recipe, job.graph, weights, tmp_path / "artefacts")
    assert [p.name for p in written] == [
        "training_model.onnx",
        "eval_model.onnx",
        "optimizer_model.onnx",
        "checkpoint",
        "README.md",
    ]
    np.savez(tmp_path / "batch.npz", **batch)
    command = [engine, BARE_LOOP, tmp_path / "artefacts", tmp_path / "batch.npz", "0.002", "8", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    bare = json.loads(done.stdout)
    standard, other = engines(job, weights)
    losses = [other.step(batch, rate=0.002, seed=number).loss for number in range(8)]
    np.testing.assert_allclose(bare["losses"], losses, atol=TOLERANCE)
    assert bare["evaluation"] == pytest.approx(other.evaluate(batch).loss, abs=TOLERANCE)
    standard.close()
    other.close()


def test_no_model_pads_by_itself() -> None:
    """ONNX's auto_pad has a wrong gradient in the engine."""
    job = make_job(
        read_source(ROOT / "examples/lenet5.net"),
    )
    text = """
    network Same {
        input x: float32[N, 3, H, W]
        output y = x -> conv(4, 3, stride=2, padding="same") -> global_avg_pool
    }
    train Same { target t: float32[N, 4, 1, 1] loss = mse(y, t) optimizer = sgd(0.1) }
    """
    for one in (job, job_of(text)):
        recipe: Recipe = one.recipe
        models = EngineModels(recipe, one.graph)
        model = models.forward(frozenset(p.name for p in one.graph.parameters)).parts.model
        assert not [a.name for n in model.graph.node for a in n.attribute if a.name == "auto_pad"]


def test_exported_models_of_both_engines_agree(engine: Path, tmp_path: Path) -> None:
    """After the same training, the inference models with either engine's weights give the same."""
    job: Job = small()
    made = engines(job)
    outputs = []
    for e in made:
        for number in range(6):
            e.step(batch_of(job, seed=number), rate=0.02, seed=number)
        path = tmp_path / f"{e.name}.safetensors"
        save_weights(path, e.state(), e.weights)
        e.close()
        store = WeightStore(job.graph.parameters, checkpoint=load_checkpoint(path))
        graph = optimize(job.graph)
        session = Session(to_proto(graph, store).SerializeToString(), "cpu")
        outputs.append(session.run({name: batch_of(job)[name] for name in session.inputs}))
    for name, array in outputs[0].items():
        np.testing.assert_allclose(outputs[1][name], array, atol=1e-5)
