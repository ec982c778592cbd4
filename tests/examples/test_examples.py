"""Every example compiles, runs and counts as published, through the real command line."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
NETDSL = [sys.executable, "-m", "netdsl"]

#: parameters and GMACs, from torchvision's table of models unless said otherwise.
PUBLISHED: dict[str, tuple[int, float | None]] = {
    "lenet5": (61_706, None),  # LeCun et al. 1998 with a full C3 and a dense output: 156+2416+48120+10164+850
    "alexnet": (61_100_840, 0.714),
    "vgg16": (138_357_544, 15.470),
    "googlenet": (6_624_904, 1.498),
    "resnet18": (11_689_512, 1.814),
    "resnet50": (25_557_032, 4.089),
    "mobilenet_v1": (
        4_231_976,
        0.569,
    ),  # Keras' applications: 4,253,864 less 21,888 running statistics; 569 M in the paper
    "mobilenet_v2": (3_504_872, 0.301),
    "vit_b_32": (88_224_232, 4.409),  # with both products of attention, as torchvision counts
}
#: inputs of the examples whose size is symbolic
SIZES: dict[str, dict[str, tuple[int, ...]]] = {
    "unet": {"image": (1, 1, 48, 32)},
    "segnet": {"image": (1, 3, 64, 32)},
    "unet_denoise": {"image": (1, 3, 48, 32)},
    "context": {"features": (1, 21, 40, 50)},
}
NAMES = sorted(p.stem for p in EXAMPLES.glob("*.net"))


def netdsl(*arguments: str | Path) -> str:
    done = subprocess.run([*NETDSL, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def report(name: str, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(netdsl("report", EXAMPLES / f"{name}.net", "--format", "json", *arguments))
    return found


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_as_published(name: str) -> None:
    totals = report(name)["totals"]
    parameters, gmacs = PUBLISHED[name]
    assert totals["parameters"] == parameters
    if gmacs is not None:
        assert round(totals["macs"] / 1e9, 3) == gmacs


def double_conv(inputs: int, width: int) -> int:
    return 9 * inputs * width + width + 9 * width * width + width


def test_unet_counts() -> None:
    widths = [64, 128, 256, 512, 1024]
    down = sum(double_conv(a, b) for a, b in pairwise([1, *widths]))
    up = sum(4 * b * a + a + double_conv(2 * a, a) for a, b in pairwise(widths))
    found = report("unet")
    assert found["totals"]["parameters"] == down + up + 64 * 2 + 2 == 31_030_658
    assert found["outputs"]["logits"] == ["float32", ["N", 2, "16*h", "16*w"]]


def test_context_module_as_published() -> None:
    """64 C^2 weights and a receptive field of 67 x 67 (Yu & Koltun 2015, section 3)."""
    found = report("context")
    weights = sum(np.prod(s["shape"]) for s in found["state"] if s["name"].endswith("weight"))
    assert weights == 64 * 21**2
    assert found["layers"][-1]["receptive_field"]["size"] == [67, 67]


def test_vit_counts_exactly() -> None:
    """Patches, then per layer four projections, two products of attention and two dense layers, then the head."""
    positions, features, hidden = 50, 768, 3072
    layer = positions * features * (4 * features + 2 * positions + 2 * hidden)
    patches = 49 * 3 * 32**2 * features
    assert report("vit_b_32")["totals"]["macs"] == patches + 12 * layer + features * 1000 == 4_409_186_304


def test_gpt_counts_and_sees_no_later_character(tmp_path: Path) -> None:
    layer = 12 * 128**2 + 13 * 128  # projections, dense layers, biases, norms
    assert report("gpt")["totals"]["parameters"] == 96 * 128 + 128 * 128 + 4 * layer + 2 * 128 == 822_016
    netdsl("compile", EXAMPLES / "gpt.net", "-o", tmp_path / "gpt.onnx", "--quiet")
    ids = np.random.default_rng(0).integers(0, 96, (1, 128))
    later = ids.copy()
    later[0, 70] = (ids[0, 70] + 1) % 96
    logits = []
    for array in (ids, later):
        np.save(tmp_path / "ids.npy", array)
        netdsl(
            "run", tmp_path / "gpt.onnx", "--input", f"ids={tmp_path / 'ids.npy'}", "-o", tmp_path / "y.npz", "--quiet"
        )
        with np.load(tmp_path / "y.npz") as found:
            logits.append(found["logits"][0])
    np.testing.assert_allclose(logits[0][:70], logits[1][:70], atol=1e-6)
    assert np.abs(logits[0][70:] - logits[1][70:]).max(axis=1).min() > 0


@pytest.mark.parametrize("name", NAMES)
def test_compiles_and_runs(name: str, tmp_path: Path) -> None:
    model, result = tmp_path / f"{name}.onnx", tmp_path / "out.npz"
    netdsl("compile", EXAMPLES / f"{name}.net", "-o", model, "--quiet")
    described = report(name)
    assert onnx.load(model, load_external_data=False).producer_name == "netdsl"
    rng, inputs = np.random.default_rng(0), []
    for key, (dtype, shape) in described["inputs"].items():
        sizes = SIZES.get(name, {}).get(key) or tuple(1 if isinstance(d, str) else d for d in shape)
        np.save(tmp_path / f"{key}.npy", rng.random(sizes).astype(dtype))
        inputs += ["--input", f"{key}={tmp_path / key}.npy"]
    netdsl("run", model, *inputs, "-o", result, "--quiet")
    with np.load(result) as arrays:
        assert set(arrays) == set(described["outputs"])
        assert all(np.isfinite(a).all() and (a.size == 1 or a.std() > 0) for a in arrays.values())
