"""20 losses, and gradients, of the benchmark's small networks against PyTorch's, by the benchmark's own two sides.

The two run in processes of their own, as in the benchmark: two thread pools in one process slow each other down.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

ROOT = Path(__file__).parents[2]
CASES = [
    ("LeNet-5", "sgd momentum"),
    ("LeNet-5", "adam"),
    ("LeNet-5", "rmsprop centered"),
    ("LeNet-5", "adadelta"),
    ("ResNet-8", "sgd momentum"),
    *((f"loss:{loss}", "sgd momentum") for loss in ("cross_entropy smoothed", "focal", "huber", "kl_divergence", "l1")),
]


def run(side: str, *arguments: object) -> Any:
    script = ROOT / "benchmarks" / ("training_ours.py" if side == "ours" else "torch_training.py")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("name", "optimizer"), CASES, ids=lambda text: text)
def test_losses_are_pytorchs(name: str, optimizer: str, tmp_path: Path) -> None:
    data = tmp_path / "data.npz"
    run("ours", "init", name, data)
    ours, theirs = (run(side, "losses", name, data, optimizer)["losses"] for side in ("ours", "theirs"))
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < 1e-4
    assert ours[-1] != ours[0]


@pytest.mark.parametrize("name", ["LeNet-5", "ResNet-8", "loss:focal"])
def test_gradients_are_as_exact_as_pytorchs(name: str, tmp_path: Path) -> None:
    """Both against float64; no worse than twice PyTorch's own error in float32."""
    data, out = tmp_path / "data.npz", tmp_path / "gradients.npz"
    run("ours", "init", name, data)
    run("ours", "gradients", name, data, out)
    errors = run("theirs", "gradients", name, data, out)
    assert errors["ours"] <= 2 * errors["torch"]
    assert errors["torch"] < 1e-5
