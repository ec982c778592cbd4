"""The commands, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from sklearn.datasets import load_digits

from netdsl.cli.main import command_line
from netdsl.training.engines.onnxruntime_training import environment as env

ROOT = Path(__file__).parents[3]
DIGITS = str(ROOT / "examples" / "resnet_digits.net")


def run(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(command_line, [str(a) for a in arguments])
    assert result.exit_code == status, result.output
    return result


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    found = load_digits()
    images = (found.images / 16).astype(np.float32)[:, None]
    held = np.arange(len(images)) % 5 == 0  # a picture is 0.3 points
    for name, chosen in (("train", ~held), ("test", held)):
        np.savez(folder / f"{name}.npz", image=images[chosen], label=found.target[chosen].astype(np.int64))
    return folder


def accuracy(checkpoint: Path) -> float:
    lines = (checkpoint.with_suffix(".run") / "metrics.jsonl").read_text().splitlines()
    return float(json.loads(lines[-1])["val"]["accuracy"])


def test_digits_with_both_engines_and_back(engine: Path, digits: Path, tmp_path: Path) -> None:
    """Accuracy within half a point; then each checkpoint goes on in the other engine."""
    data = ["--data", digits / "train.npz", "--val", digits / "test.npz", "--threads", 1, "--device", "cpu", "-q"]
    reached = {}
    for name, other in (("standard", "onnxruntime-training"), ("onnxruntime-training", "standard")):
        checkpoint = tmp_path / f"{name}.safetensors"
        run("train", DIGITS, *data, "-o", checkpoint, "--engine", name, "--epochs", 8)
        reached[name] = accuracy(checkpoint)
        run("train", DIGITS, *data, "-o", checkpoint, "--engine", other, "--epochs", 9, "--resume")
        assert accuracy(checkpoint) >= 0.97
    assert reached["standard"] >= 0.97
    assert abs(reached["standard"] - reached["onnxruntime-training"]) <= 0.005
    checkpoint = tmp_path / "standard.safetensors"
    scores = [
        run("eval", DIGITS, "--weights", checkpoint, "--data", digits / "test.npz", "--engine", name).output
        for name in ("standard", "onnxruntime-training")
    ]
    assert "accuracy" in scores[0]
    assert scores[0] == scores[1]


PLAIN = """network Plain {
    input x: float32[N, 4]
    output y = x -> dense(2) as layer -> batch_norm
}
train Plain {
    target t: float32[N, 2]
    loss = mse(y, t)
    optimizer = sgd(0.1)
}
"""


def test_compile_training(engine: Path, tmp_path: Path) -> None:
    source = tmp_path / "plain.net"
    source.write_text(PLAIN)
    run("compile", source, "--training", tmp_path / "out", "--engine", "onnxruntime-training")
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"training_model.onnx", "eval_model.onnx", "optimizer_model.onnx", "checkpoint", "README.md"}
    for name in ("training_model.onnx", "eval_model.onnx", "optimizer_model.onnx"):
        model = onnx.load(tmp_path / "out" / name)
        assert model.ir_version <= 10
        assert all(o.version <= 21 for o in model.opset_import if o.domain == "")
    assert "seed" not in [i.name for i in onnx.load(tmp_path / "out" / "training_model.onnx").graph.input]
    assert "next/batch_norm.running_mean" in (tmp_path / "out" / "README.md").read_text()


def test_compile_refuses_to_accumulate_for_an_optimizer_that_the_api_lacks(tmp_path: Path) -> None:
    source = tmp_path / "plain.net"
    source.write_text(PLAIN.replace("sgd(0.1)", "rmsprop(0.1)  accumulate = 2"))
    command = ["compile", source, "--training", tmp_path / "out", "--engine", "onnxruntime-training"]
    result = run(*command, status=1)
    assert "rmsprop with these arguments cannot accumulate gradients" in result.output
    assert not (tmp_path / "out").exists()
    assert "writes opset 17" in run(*command, "--opset", 18, status=2).output
    assert "goes with --training" in run("compile", source, "--engine", "onnxruntime-training", status=2).output


def test_install_list_and_remove(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NETDSL_CACHE", str(tmp_path))
    listed = run("engine", "list").output
    assert "standard: part of netdsl" in listed
    assert listed.count("not installed") == 2
    env.environment("cpu").folder.mkdir(parents=True)
    assert "broken, in " in run("engine", "list").output
    assert "removed" in run("engine", "remove", "onnxruntime-training").output
    assert "was not installed" in run("engine", "remove", "onnxruntime-training").output
    monkeypatch.setattr(env, "find_interpreter", lambda versions: None)
    result = run("engine", "install", "onnxruntime-training", status=3)
    assert "none was found here" in result.output


def test_training_without_the_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, digits: Path) -> None:
    monkeypatch.setenv("NETDSL_CACHE", str(tmp_path))
    result = run("train", DIGITS, "--data", digits / "train.npz", "--engine", "onnxruntime-training", status=3)
    assert "is not installed: netdsl engine install onnxruntime-training" in result.output
