"""`netdsl train`, `netdsl eval` and `netdsl compile --training` through the real command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

import netdsl
from netdsl.cli.main import command_line
from netdsl.ir.opdef import NotDifferentiable
from netdsl.ops import PRIMITIVES
from netdsl.runtime.session import runtime_module
from netdsl.source import SourceFile
from netdsl.training.engines.standard import StandardEngine
from netdsl.training.initial import initial_weights
from netdsl.training.job import make_job
from netdsl.weights import load_checkpoint

NET = """network Small(hidden=8) {
    input x: float32[N, 4]
    h = x -> dense(hidden) as first -> batch_norm as norm -> relu -> dropout(0.2)
    output y = h -> dense(3) as last
}

train Small(lr=0.01) {
    target t: int64[N]
    loss = cross_entropy(y, t)
    metric accuracy = accuracy(y, t)
    optimizer = adamw(lr=lr)
    schedule = cosine(warmup=0.1)
    unfreeze = [("first.*", 1)]
    freeze = "first.*"
    accumulate = 3
    epochs = 4
    batch = 8
    seed = 5
}

train Small "plain" {
    target t: int64[N]
    loss = cross_entropy(y, t)
    optimizer = sgd(lr=0.1)
}
"""
NETDSL = [sys.executable, "-m", "netdsl"]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command_line, [*map(str, arguments)])


def write_data(path: Path, items: int = 60, **changes: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((items, 4)).astype(np.float32)
    arrays = {"x": x, "t": x[:, :3].argmax(1)} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    Path("small.net").write_text(NET)
    write_data(Path("data.npz"))
    write_data(Path("val.npz"), 20)
    yield tmp_path


def train(*arguments: object) -> Result:
    return invoke("train", "small.net", "--data", "data.npz", "--device", "cpu", "--threads", 1, *arguments)


def arrays_of(path: str) -> dict[str, bytes]:
    checkpoint = load_checkpoint(Path(path))
    return {name: checkpoint.read(name).tobytes() for name in checkpoint.entries}


def test_trains_evaluates_and_compiles(folder: Path) -> None:
    done = train("--val", "val.npz", "--epochs", 12, "--set", "lr=0.05")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("Small: 12 of 12 epochs, loss ")
    assert "epoch 12/12" in done.stderr
    settings = json.loads(Path("small.run/settings.json").read_text())
    assert settings["optimizer"]["lr"] == 0.05 and settings["seed"] == 5
    lines = Path("small.run/metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert len(lines) == 12 and last["val"]["accuracy"] > 0.8
    found = invoke("eval", "small.net", "--weights", "small.safetensors", "--data", "val.npz", "--format", "json")
    assert found.exit_code == 0, found.output
    numbers = json.loads(found.stdout)
    assert numbers == {"loss": pytest.approx(last["val"]["loss"]), "metrics": {"accuracy": last["val"]["accuracy"]}}
    table = invoke("eval", "small.net", "--weights", "small.safetensors", "--data", "val.npz")
    assert table.stdout.splitlines()[1].split() == ["accuracy", f"{last['val']['accuracy']:.6g}"]
    np.save("x.npy", np.load("val.npz")["x"])
    ran = invoke("run", "small.net", "--weights", "small.safetensors", "--input", "x=x.npy", "-o", "out.npz")
    assert ran.exit_code == 0, ran.output
    accuracy = (np.load("out.npz")["y"].argmax(1) == np.load("val.npz")["t"]).mean()
    assert accuracy == pytest.approx(last["val"]["accuracy"])
    compiled = invoke("compile", "small.net", "--weights", "small.safetensors", "--verify")
    assert compiled.exit_code == 0, compiled.output


def test_the_same_command_gives_the_same_file(folder: Path) -> None:
    for name in ("a", "b"):
        assert train("-o", f"{name}.safetensors", "--val", 0.2, "-q").exit_code == 0
    assert Path("a.safetensors").read_bytes() == Path("b.safetensors").read_bytes()
    assert train("-o", "c.safetensors", "--val", 0.2, "-q", "--seed", 6).exit_code == 0
    assert arrays_of("a.safetensors")["last.weight"] != arrays_of("c.safetensors")["last.weight"]


def test_killed_and_resumed_equals_never_stopped(folder: Path) -> None:
    epochs = 120
    arguments = ["--data", "data.npz", "--device", "cpu", "--threads", "1", "--epochs", str(epochs)]
    process = subprocess.Popen([*NETDSL, "train", "small.net", *arguments, "-o", "a.safetensors"], stderr=-3)
    lines = Path("a.run/metrics.jsonl")
    while process.poll() is None and not (lines.exists() and lines.read_text().count("\n") >= 2):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    begun = json.loads(load_checkpoint(Path("a.safetensors")).metadata["netdsl"])["progress"]["epoch"]
    assert process.returncode == -signal.SIGKILL and 0 < begun < epochs
    resumed = invoke("train", "small.net", *arguments, "-o", "a.safetensors", "--resume")
    assert resumed.exit_code == 0, resumed.output
    whole = invoke("train", "small.net", *arguments, "-o", "b.safetensors")
    assert whole.exit_code == 0, whole.output
    assert Path("a.safetensors").read_bytes() == Path("b.safetensors").read_bytes()
    kept = [json.loads(line)["epoch"] for line in lines.read_text().splitlines()]
    assert kept == [*range(1, epochs + 1)]


EVERYTHING = """
train Small "everything" (lr=0.02) {
    target t: int64[N]
    loss = cross_entropy(y, t)
    metric accuracy = accuracy(y, t)
    optimizer = OPTIMIZER
    schedule = plateau(factor=0.5, patience=1, warmup=1)
    early_stop = early_stop(patience=4)
    epochs = 4
    batch = 7
    accumulate = 3
    clip_norm = 0.5
    precision = "PRECISION"
    recompute = "auto"
    freeze = [("first.*", 0), ("last.bias", 2)]
    unfreeze = [("first.*", 1)]
}
"""


@pytest.mark.parametrize(("precision", "optimizer"), [("float16", "adam(lr=lr)"), ("bfloat16", "rmsprop(lr=lr)")])
def test_everything_together_resumes_to_the_bit(precision: str, optimizer: str, folder: Path) -> None:
    text = EVERYTHING.replace("PRECISION", precision).replace("OPTIMIZER", optimizer)
    Path("small.net").write_text(NET + text)
    options = ("--recipe", "everything", "--val", "val.npz")
    whole = train(*options, "-o", "whole.safetensors")
    assert whole.exit_code == 0, whole.output
    for epochs in range(1, 5):
        assert train(*options, "-o", "parts.safetensors", "--resume", "--epochs", epochs).exit_code == 0
    one, two = arrays_of("whole.safetensors"), arrays_of("parts.safetensors")
    assert one == two
    assert "optimizer/step_since_epoch_1" in one and ("training/loss_scale" in one) == (precision == "float16")


def test_resume_without_a_checkpoint_begins(folder: Path) -> None:
    done = train("--resume")
    assert done.exit_code == 0 and "there is no small.safetensors yet: the run begins" in done.stderr
    again = train("--resume", "--epochs", 5)
    assert again.exit_code == 0 and "5 of 5 epochs" in again.stdout


def test_begins_with_the_recipes_weights(folder: Path) -> None:
    (folder / "sub").mkdir()
    write_data(folder / "sub" / "data.npz")
    assert train("-o", "sub/first.safetensors").exit_code == 0
    text = NET.replace("    accumulate = 3\n", '    weights = "first.safetensors"\n').replace('freeze = "first.*"', "")
    (folder / "sub" / "next.net").write_text(text.replace("    un\n", "").replace('unfreeze = [("first.*", 1)]', ""))
    done = invoke("train", "sub/next.net", "--data", "data.npz", "--set", "lr=0", "--epochs", 1)
    assert done.exit_code == 0, done.output
    assert arrays_of("sub/first.safetensors")["last.weight"] == arrays_of("sub/next.safetensors")["last.weight"]
    (folder / "sub" / "first.safetensors").unlink()
    lost = invoke("train", "sub/next.net", "--data", "data.npz")
    assert lost.exit_code == 1 and "first.safetensors" in lost.stderr


def one_message(result: Result, *words: str) -> None:
    assert result.exit_code == 1, result.output
    assert result.stderr.count("error:") == 1 and "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr, result.stderr


BAD_DATA = {
    "missing target": ({"t": None}, ["no array for the target 't'"]),
    "wrong shape": ({"x": np.zeros((60, 5), np.float32)}, ["float32[N, 4]", "float32[60, 5]"]),
    "wrong rank": ({"x": np.zeros((60, 4, 1), np.float32)}, ["wrong rank"]),
    "other lengths": ({"t": np.zeros(59, np.int64)}, ["'x' 60", "'t' 59"]),
    "float labels": ({"t": np.full(60, 0.5)}, ["wrong type", "int64[N]"]),
    "label too large": ({"t": np.full(60, 3)}, ["from 0 to 2", "found 3"]),
    "negative label": ({"t": np.full(60, -1)}, ["from 0 to 2", "found -1"]),
    "NaN": ({"x": np.full((60, 4), np.nan, np.float32)}, ["'x' holds NaN", "[0, 0]"]),
    "infinity": ({"x": np.full((60, 4), np.inf, np.float32)}, ["'x' holds infinity"]),
    "empty": ({"x": np.zeros((0, 4), np.float32), "t": np.zeros(0, np.int64)}, ["empty"]),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_is_one_message(name: str, folder: Path) -> None:
    changes, words = BAD_DATA[name]
    write_data(Path("data.npz"), **changes)
    Path("small.safetensors").write_bytes(b"the previous one")
    one_message(train(), "data.npz", *words)
    assert Path("small.safetensors").read_bytes() == b"the previous one"
    assert not Path("small.run").exists()


def test_a_last_batch_of_one_joins_the_one_before(folder: Path) -> None:
    write_data(Path("data.npz"), 17)
    assert train().exit_code == 0
    settings = [json.loads(line)["step"] for line in Path("small.run/metrics.jsonl").read_text().splitlines()]
    assert settings[0] == 1


def test_batches_of_one_with_batch_norm(folder: Path) -> None:
    one_message(train("--batch", 1), "batch = 1", "batch norm")
    write_data(Path("data.npz"), 1)
    one_message(train(), "batch norm")


def test_the_checkpoint_of_another_network(folder: Path) -> None:
    assert train().exit_code == 0
    before = Path("small.safetensors").read_bytes()
    one_message(train("--resume", "--set", "hidden=9"), "small.safetensors", "another network", "first.weight")
    assert Path("small.safetensors").read_bytes() == before
    found = invoke("eval", "small.net", "--set", "hidden=9", "--weights", "small.safetensors", "--data", "data.npz")
    one_message(found, "small.safetensors", "first.weight")
    Path("small.safetensors").write_bytes(before[:-10])
    one_message(train("--resume"), "small.safetensors", "cut short")


def test_a_full_disk_leaves_the_last_checkpoint(folder: Path) -> None:
    """A limit on the size of files fails in the middle of a checkpoint, as a full disk does."""
    assert train("--epochs", 1, "--set", "hidden=400").exit_code == 0
    before = Path("small.safetensors").read_bytes()
    limit = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000)); "
    code = limit + "sys.argv = sys.argv[1:]; runpy.run_module('netdsl', run_name='__main__')"
    command = ["netdsl", "train", "small.net", "--data", "data.npz", "--set", "hidden=400", "--epochs", "3", "--resume"]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the checkpoint could not be written" in done.stderr and "the previous checkpoint is whole" in done.stderr
    assert "Traceback" not in done.stderr
    assert Path("small.safetensors").read_bytes() == before
    assert not [path for path in Path().iterdir() if path.suffix == ".tmp" or path.name.startswith(".")]


def test_a_loss_that_is_not_finite_names_the_layer(folder: Path) -> None:
    text = NET.replace("-> relu ->", "-> exp as boom ->").replace("-> batch_norm as norm ", "")
    Path("small.net").write_text(text.replace('unfreeze = [("first.*", 1)]\n', "").replace('freeze = "first.*"', ""))
    write_data(Path("data.npz"), x=np.full((60, 4), 1e4, np.float32))
    one_message(train(), "the loss became", "boom (small.net:3:", "exp", "lower the learning rate")
    assert not Path("small.safetensors").exists()


def test_an_operator_without_a_gradient(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said at its place, before anything is written."""

    def none(*arguments: object) -> None:
        raise NotDifferentiable

    monkeypatch.setattr(PRIMITIVES["relu"], "gradient", none)
    Path("small.net").write_text(NET.replace('freeze = "first.*"', 'freeze = "last.*"'))
    one_message(train(), "small.net:3:", "relu has no gradient")
    assert not Path("small.run").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--engine", "onnxruntime-trainin"), 2, "onnxruntime-training"),
        (("--recipe", "plane"), 2, 'did you mean "plain"'),
        (("--network", "Smal"), 2, "Small"),
        (("--set", "hiden=3"), 2, "hidden"),
        (("--val", "1.5"), 2, "between 0 and 1"),
        (("--val", "nowhere.npz"), 1, "nowhere.npz"),
        (("-o", "model.onnx"), 2, ".safetensors"),
        (("-o", "no/such.safetensors"), 1, "no such directory"),
        (("--columns", "x"), 2, "NAME=COLUMN"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], status: int, words: str, folder: Path) -> None:
    done = train(*arguments)
    assert done.exit_code == status, done.output
    assert words in done.stderr and "Traceback" not in done.stderr


def test_a_file_without_a_recipe(folder: Path) -> None:
    Path("small.net").write_text(NET.partition("train")[0])
    one_message(train(), "no recipe")


def test_a_fixed_batch_axis(folder: Path) -> None:
    one_message(train("--set", "N=8"), "'x' is float32[8, 4]", "to be a symbol")


def test_a_table(folder: Path) -> None:
    arrays = np.load("data.npz")
    rows = np.column_stack([arrays["x"], arrays["t"]])
    np.savetxt("data.csv", rows, ["%.6g"] * 4 + ["%d"], ",", header="a,b,c,d,kind", comments="")
    done = invoke("train", "small.net", "--data", "data.csv", "--columns", "x=a:d", "--columns", "t=kind")
    assert done.exit_code == 0, done.output


def test_the_other_recipe(folder: Path) -> None:
    done = train("--recipe", "plain")
    assert done.exit_code == 0 and "1 of 1 epochs" in done.stdout and "accuracy" not in done.stdout


def test_from_python(folder: Path) -> None:
    trained = netdsl.train("small.net", data="data.npz", validation="val.npz", epochs=6, set={"lr": 0.05}, threads=1)
    assert trained.epochs == 6 and trained.checkpoint == Path("small.safetensors")
    found = netdsl.evaluate("small.net", weights=trained.checkpoint, data="val.npz")
    assert found["metrics"]["accuracy"] == trained.metrics["val"]["accuracy"]
    logits = trained.model.run({"x": np.load("val.npz")["x"]})["y"]
    assert (logits.argmax(1) == np.load("val.npz")["t"]).mean() == pytest.approx(found["metrics"]["accuracy"])
    with pytest.raises(netdsl.DiagnosticError):
        netdsl.train("small.net", data="val.npz", set={"hidden": 0})


# --- compile --training ----------------------------------------------------------------------------------------------


@pytest.fixture
def artifacts(folder: Path) -> Path:
    done = invoke("compile", "small.net", "--recipe", "plain", "--training", "out", "--opset", 17)
    assert done.exit_code == 0, done.output
    return folder / "out"


def test_training_files_hold_standard_operators_and_are_documented(artifacts: Path) -> None:
    text = (artifacts / "README.md").read_text()
    for name in ("train_step.onnx", "eval.onnx"):
        model = onnx.load(artifacts / name)
        onnx.checker.check_model(model, full_check=True)
        assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
        for value in (*model.graph.input, *model.graph.output):
            assert f"| `{value.name}` |" in text
    held = load_checkpoint(artifacts / "init.safetensors").entries
    step = onnx.load(artifacts / "train_step.onnx").graph
    given = {"x", "t", "learning_rate", "seed"}
    assert {i.name for i in step.input} == given | set(held)
    assert "optimizer/step" in held and {"first.weight", "norm.running_mean"} <= set(held)


def test_the_python_example_runs_in_a_bare_environment(artifacts: Path, tmp_path: Path) -> None:
    """With onnxruntime and numpy alone, it gives the losses of netdsl's own engine."""
    bare = tmp_path / "bare"
    bare.mkdir()
    for package in ("onnxruntime", "numpy"):
        spec = find_spec(package)
        assert spec is not None and spec.origin is not None
        home = Path(spec.origin).parent
        for path in (home, home.with_name(f"{package}.libs")):
            if path.exists():
                (bare / path.name).symlink_to(path)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(bare)}
    run = [sys.executable, "-S", "-s"]
    for forbidden in ("netdsl", "onnx", "safetensors"):
        assert subprocess.run([*run, "-c", f"import {forbidden}"], env=environment, stderr=-3, check=False).returncode
    done = subprocess.run(
        [*run, artifacts / "train.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    losses = [float(line.split()[-1]) for line in done.stdout.splitlines()]
    job = make_job(SourceFile("small.net", NET), label="plain")
    weights = initial_weights(job.recipe, job.graph, job.folder)
    engine = StandardEngine(job.recipe, job.graph, weights, device="cpu", threads=1)
    rng = np.random.default_rng(0)
    batch = {"x": rng.random((32, 4), np.float32), "t": rng.integers(0, 3, 32)}
    expected = [engine.step(batch, rate=0.1, seed=number).loss for number in range(10)]
    expected.append(engine.evaluate(batch).loss)
    assert losses == pytest.approx(expected, abs=2e-5)
    assert losses[-1] < losses[0]


def test_the_examples_are_short_and_name_every_input(artifacts: Path) -> None:
    python, cpp = (artifacts / "train.py").read_text(), (artifacts / "train.cpp").read_text()
    readme = (artifacts / "README.md").read_text()
    assert python in readme and cpp in readme
    assert len(python.splitlines()) <= 30 and "import onnxruntime" in python
    assert len(cpp.splitlines()) <= 43
    assert all(len(line) <= 100 for line in (*python.splitlines(), *cpp.splitlines()))
    for name in ("x", "t"):
        assert f'values["{name}"] = tensor(rng.' in python and f'  put("{name}", ' in cpp


def test_the_initial_model_gives_the_initial_state(artifacts: Path) -> None:
    onnx.checker.check_model(artifacts / "init.onnx", full_check=True)
    held = load_checkpoint(artifacts / "init.safetensors")
    made = runtime_module().InferenceSession(str(artifacts / "init.onnx"), providers=["CPUExecutionProvider"])
    names = [o.name for o in made.get_outputs()]
    assert not made.get_inputs() and names == list(held.entries)
    for name, array in zip(names, made.run(names, {}), strict=True):
        np.testing.assert_array_equal(array, held.read(name))


def test_training_files_of_accumulated_gradients(folder: Path) -> None:
    done = invoke("compile", "small.net", "--training", "out", "--seed", 3)
    assert done.exit_code == 0, done.output
    names = {path.name for path in (folder / "out").iterdir()}
    assert names == {
        *("train_step.onnx", "train_step_first.onnx", "train_step_middle.onnx", "train_step_last.onnx"),
        *("eval.onnx", "init.safetensors", "init.onnx", "README.md", "train.py", "train.cpp"),
    }
    middle = onnx.load(folder / "out" / "train_step_middle.onnx").graph
    assert "accumulated/last.weight" in {i.name for i in middle.input}
    assert "next/last.weight" not in {o.name for o in middle.output}


def test_training_goes_without_the_options_of_a_model(folder: Path) -> None:
    for flags in (("--verify",), ("-o", "x.onnx"), ("--explain",)):
        assert invoke("compile", "small.net", "--training", "out", *flags).exit_code == 2
    Path("out").write_text("")
    assert invoke("compile", "small.net", "--training", "out").exit_code == 1
