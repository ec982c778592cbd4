"""Every example with a recipe trains through the real command line, on the data that its script writes: LeNet-5 in
full, the others at a small size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netdsl.weights import load_checkpoint

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"
NETDSL = [sys.executable, "-m", "netdsl"]


def run(*arguments: str | Path) -> str:
    done = subprocess.run([*map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for script in sorted((EXAMPLES / "data").glob("*.py")):
        run(sys.executable, script, folder)
    return folder


def trained(
    name: str,
    data: Path,
    held_out: Path,
    checkpoint: Path,
    *options: str,
    batch: int | None = None,
    **settings: float,
) -> dict[str, Any]:
    """Trains an example, with some parameters set, and evaluates its checkpoint on the held-out data, in batches of the
    same size, for which the same forms of its operators are picked."""
    network = EXAMPLES / f"{name}.net"
    machine = ["--device", "cpu", "--threads", "1"]
    machine += ["--batch", str(batch)] if batch else []
    machine += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    run(*NETDSL, "train", network, "--data", data, "--val", held_out, "-o", checkpoint, *machine, *options)
    found = run(*NETDSL, "eval", network, "--weights", checkpoint, "--data", held_out, "--format", "json", *machine)
    numbers: dict[str, Any] = json.loads(found)
    last = json.loads((checkpoint.with_suffix(".run") / "metrics.jsonl").read_text().splitlines()[-1])
    assert numbers["loss"] == pytest.approx(last["val"]["loss"])
    return numbers


def test_lenet5_reads_the_digits(data: Path, tmp_path: Path) -> None:
    """At least 98.5 % of a held-out tenth, at the recipe's own seed and length."""
    with np.load(data / "digits_train.npz") as train, np.load(data / "digits_test.npz") as test:
        assert len(test["label"]) == 179 and len(train["label"]) == 5 * (1797 - 179)
    found = trained("lenet5", data / "digits_train.npz", data / "digits_test.npz", tmp_path / "lenet5.safetensors")
    assert found["metrics"]["accuracy"] >= 0.985


def test_resnet_with_batch_norm_reads_the_digits(data: Path, tmp_path: Path) -> None:
    train, test = data / "digits8_train.npz", data / "digits8_test.npz"
    found = trained("resnet_digits", train, test, tmp_path / "r.safetensors", "--epochs", "5")
    assert found["metrics"]["accuracy"] >= 0.97


def test_siamese_network_tells_pairs(data: Path, tmp_path: Path) -> None:
    """Of digits that it never saw; half of the pairs are equal."""
    train, test = data / "pairs_train.npz", data / "pairs_test.npz"
    found = trained("siamese", train, test, tmp_path / "s.safetensors", "--epochs", "4")
    assert found["metrics"]["accuracy"] >= 0.93


def test_a_student_learns_from_a_frozen_teacher(data: Path, tmp_path: Path) -> None:
    """The second recipe reads what the first one wrote, leaves it as it is, and the student follows it. The student
    hardly sees the labels: with `share=1` not at all."""
    program = tmp_path / "distillation.net"
    program.write_text((EXAMPLES / "distillation.net").read_text(encoding="utf-8"), encoding="utf-8")
    options = ["--data", data / "digits8_train.npz", "--device", "cpu", "--threads", "1", "--quiet"]
    teacher = tmp_path / "teacher.safetensors"
    run(*NETDSL, "train", program, "--network", "Teacher", "--epochs", "3", "-o", teacher, *options)
    run(*NETDSL, "train", program, "--set", "share=1.0", "--epochs", "10", *options)
    taught, before = load_checkpoint(tmp_path / "distillation.safetensors"), load_checkpoint(teacher)
    copied = [name for name in taught.entries if name.startswith("teacher.")]
    assert len(copied) == 47  # 9 convolutions, their norms, and the classifier
    for name in copied:
        np.testing.assert_array_equal(taught.read(name), before.read(name.removeprefix("teacher.")))
    held_out = ["--weights", taught.path, "--data", data / "digits8_test.npz", "--format", "json", "--device", "cpu"]
    metrics = json.loads(run(*NETDSL, "eval", program, "--set", "share=1.0", *held_out))["metrics"]
    assert metrics["teacher"] >= 0.96 and metrics["accuracy"] >= 0.9


def test_unet_removes_noise(data: Path, tmp_path: Path) -> None:
    """A few epochs on small squares already leave less than two thirds of the noise's deviation of 0.1."""
    small = {}
    for part, count in (("train", 96), ("test", 16)):
        small[part] = tmp_path / f"{part}.npz"
        with np.load(data / f"photos_{part}.npz") as arrays:
            every = len(arrays["image"]) // count
            np.savez(small[part], **{name: arrays[name][::every, :, :32, :32] for name in arrays.files})
            noise = arrays["image"] - arrays["clean"]
            assert np.sqrt((noise**2).mean()) == pytest.approx(0.1, rel=0.01)
    checkpoint = tmp_path / "u.safetensors"
    found = trained("unet_denoise", small["train"], small["test"], checkpoint, "--epochs", "10", batch=4)
    assert found["metrics"]["error"] < 0.066


def test_autoencoder_restores_digits(data: Path, tmp_path: Path) -> None:
    """Better than eight principal components would: their error on the test set is 0.155."""
    train, test = data / "digits8_train.npz", data / "digits8_test.npz"
    with np.load(train) as arrays, np.load(test) as held:
        known, new = (a["image"].reshape(len(a["image"]), 64).astype(np.float64) for a in (arrays, held))
    mean = known.mean(0)
    axes = np.linalg.svd(known - mean, full_matrices=False)[2][:8]
    linear = float(np.sqrt((((new - mean) - (new - mean) @ axes.T @ axes) ** 2).mean()))
    found = trained("autoencoder", train, test, tmp_path / "a.safetensors", "--epochs", "30")
    assert found["metrics"]["error"] < linear


def test_regression_on_the_diabetes_table(data: Path, tmp_path: Path) -> None:
    """Better than the mean by far, and about as good as linear regression (whose error is 57)."""
    train, test = data / "diabetes_train.csv", data / "diabetes_test.csv"
    truth = np.loadtxt(test, delimiter=",", skiprows=1)[:, -1]
    found = trained("diabetes", train, test, tmp_path / "d.safetensors")
    assert found["metrics"]["error"] < 0.82 * truth.std()


@pytest.mark.parametrize(("name", "epochs"), [("char_lstm", 6), ("gru_generator", 5)])
def test_character_models_foretell_a_text(name: str, epochs: int, data: Path, tmp_path: Path) -> None:
    """Better than each character's share of the text by far, and then the generator goes on from a beginning."""
    whole = (data / "licence.txt").read_text("utf-8")
    for part, text in (("train", whole[:18000]), ("test", whole[18000:20000])):
        (tmp_path / f"{part}.txt").write_text("".join(c for c in text if c in set(whole[:18000])), "utf-8")
    checkpoint = tmp_path / "model.safetensors"
    small = ["--epochs", str(epochs), "--set", "units=96", "--batch", "8"]
    held_out = tmp_path / "test.txt"
    network = EXAMPLES / f"{name}.net"
    machine = ["--device", "cpu", "--threads", "1", "--set", "units=96"]
    run(
        *NETDSL,
        "train",
        network,
        "--data",
        tmp_path / "train.txt",
        "--val",
        held_out,
        "-o",
        checkpoint,
        *machine,
        *small,
    )
    found = run(*NETDSL, "eval", network, "--weights", checkpoint, "--data", held_out, "--format", "json", *machine)
    counts = np.unique(list(whole[:18000]), return_counts=True)[1]
    shares = counts / counts.sum()
    assert json.loads(found)["loss"] < -(shares * np.log(shares)).sum() - 0.6
    script = [sys.executable, EXAMPLES / "generate.py", network, checkpoint, "--set", "units=96"]
    made = run(*script, "--start", "Copyright", "--length", "30")
    assert made.startswith("Copyright") and len(made) == len("Copyright") + 30 + 1
    assert run(*script, "--start", "Copyright", "--length", "30") == made
    assert said_to_nobody(*script, "--start", "Copyright", "--length", "30") == (0, "")


def test_the_gallery_ends_quietly_where_nobody_reads() -> None:
    assert said_to_nobody(sys.executable, EXAMPLES / "gallery.py", "lenet5") == (0, "")


def said_to_nobody(*command: object) -> tuple[int, str]:
    """The status and the errors of a command whose output goes to a pipe without a reader, as after `| head`."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run([str(c) for c in command], stdout=writer, stderr=-1, text=True, check=False)
    finally:
        os.close(writer)
    return done.returncode, done.stderr


def test_vision_transformer_reads_the_digits(data: Path, tmp_path: Path) -> None:
    train, test = data / "digits8_train.npz", data / "digits8_test.npz"
    found = trained("vit_digits", train, test, tmp_path / "v.safetensors", "--epochs", "20")
    assert found["metrics"]["accuracy"] >= 0.93


def test_gpt_learns_to_spell(tmp_path: Path) -> None:
    """Sums in words: all but the numbers can be known from the characters before."""
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    rng = np.random.default_rng(0)
    for part, lines in (("train", 800), ("test", 80)):
        pairs = rng.integers(0, 5, (lines, 2))
        (tmp_path / f"{part}.txt").write_text(
            "".join(f"{words[a]} plus {words[b]} is {words[a + b]}\n" for a, b in pairs)
        )
    small = {"vocabulary": 20, "length": 32, "features": 48, "depth": 2, "rate": 0.0, "lr": 0.004}
    found = trained("gpt", tmp_path / "train.txt", tmp_path / "test.txt", tmp_path / "g.safetensors", **small)
    assert found["loss"] < 0.5
