"""Every example compiles, runs and counts as published (examples/gallery.toml), through the real command line."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from examples import gallery

EXAMPLES = {example.name: example for example in gallery.examples()}


@cache
def report(name: str, **settings: object) -> dict[str, Any]:
    return gallery.report(EXAMPLES[name], settings)


def test_every_example_is_in_the_gallery() -> None:
    assert sorted(path.stem for path in gallery.FOLDER.glob("*.net")) == sorted(EXAMPLES)


@pytest.mark.parametrize("name", [e.name for e in EXAMPLES.values() if e.parameters is not None])
def test_parameters_as_published(name: str) -> None:
    example = EXAMPLES[name]
    assert report(name, **example.set)["totals"]["parameters"] == example.parameters


@pytest.mark.parametrize("name", [e.name for e in EXAMPLES.values() if e.gmacs is not None])
def test_gmacs_as_published(name: str) -> None:
    """To the digits that were published."""
    example = EXAMPLES[name]
    macs = report(name, **example.set, **example.gmacs_set)["totals"]["macs"]
    assert example.counted_gmacs(macs) == example.gmacs


def test_the_table_has_a_row_and_notes_for_each_example(capsys: pytest.CaptureFixture[str]) -> None:
    gallery.main(["lenet5", "unet_denoise"])
    table, notes = capsys.readouterr().out.split("\n\n")
    header, _, lenet5, denoiser = table.splitlines()
    assert header.count("|") == lenet5.count("|") == denoiser.count("|")
    assert lenet5.startswith("| [LeNet-5](lenet5.net) | 16 | 61,706 | 61,706 | < 0.001 |")
    assert denoiser.startswith("| [U-Net that removes noise](unet_denoise.net) | ")
    assert "- U-Net that removes noise: with h=16, w=16." in notes


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
    gallery.netdsl("compile", EXAMPLES["gpt"].path, "-o", tmp_path / "gpt.onnx", "--quiet")
    ids = np.random.default_rng(0).integers(0, 96, (1, 128))
    later = ids.copy()
    later[0, 70] = (ids[0, 70] + 1) % 96
    logits = []
    for array in (ids, later):
        np.save(tmp_path / "ids.npy", array)
        gallery.netdsl(
            "run", tmp_path / "gpt.onnx", "--input", f"ids={tmp_path / 'ids.npy'}", "-o", tmp_path / "y.npz", "--quiet"
        )
        with np.load(tmp_path / "y.npz") as found:
            logits.append(found["logits"][0])
    np.testing.assert_allclose(logits[0][:70], logits[1][:70], atol=1e-6)
    assert np.abs(logits[0][70:] - logits[1][70:]).max(axis=1).min() > 0


@pytest.mark.parametrize("name", EXAMPLES)
def test_compiles_and_runs(name: str, tmp_path: Path) -> None:
    """The optimised model equals the one without rewrites on random inputs, and runs from files."""
    example, model, result = EXAMPLES[name], tmp_path / f"{name}.onnx", tmp_path / "out.npz"
    gallery.netdsl("compile", example.path, "-o", model, "--verify", "--quiet")
    described = report(name)
    assert onnx.load(model, load_external_data=False).producer_name == "netdsl"
    rng, inputs = np.random.default_rng(0), []
    for key, (dtype, shape) in report(name, **{"N": 1, **example.run})["inputs"].items():
        np.save(tmp_path / f"{key}.npy", rng.random(shape).astype(dtype))
        inputs += ["--input", f"{key}={tmp_path / key}.npy"]
    gallery.netdsl("run", model, *inputs, "-o", result, "--quiet")
    with np.load(result) as arrays:
        assert set(arrays) == set(described["outputs"])
        assert all(np.isfinite(a).all() and (a.size == 1 or a.std() > 0) for a in arrays.values())


@pytest.mark.parametrize(("name", "published"), [("retinanet", 34_014_999), ("mask_rcnn_heads", 44_401_393 - 593_935)])
def test_detectors_are_torchvisions_whose_norms_are_frozen(name: str, published: int) -> None:
    """torchvision keeps the scales and shifts of a detector's backbone as buffers, and does not count them."""
    found = report(name)
    norms = [s for s in found["state"] if "batch_norm" in s["name"] and s["kind"] == "parameter"]
    assert sum(np.prod(s["shape"]) for s in norms) == 53_120
    assert found["totals"]["parameters"] - 53_120 == published


def test_ssd300_has_the_boxes_of_the_paper() -> None:
    assert report("ssd300")["outputs"]["boxes"] == ["float32", ["N", 8732, 4]]


def test_what_suppression_keeps_is_a_count() -> None:
    assert report("yolov3_tiny")["outputs"]["box"] == ["float32", ["selected?", 4]]


def test_another_network_of_a_file(tmp_path: Path) -> None:
    """The detector of retinanet.net, over two pictures."""
    model, result = tmp_path / "detector.onnx", tmp_path / "out.npz"
    options = ("--network", "Detector", "--set", "classes=3", "--quiet")
    gallery.netdsl("compile", EXAMPLES["retinanet"].path, *options, "--verify", "-o", model)
    np.save(tmp_path / "image.npy", np.random.default_rng(0).random((2, 3, 128, 128)).astype(np.float32))
    gallery.netdsl("run", model, "--input", f"image={tmp_path / 'image.npy'}", "-o", result, "--quiet")
    with np.load(result) as arrays:
        rows = {len(a) for a in arrays.values()}
        assert len(rows) == 1 and rows.pop() <= 2 * 3 * 100
