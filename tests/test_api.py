"""The Python API as a user calls it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import netdsl
from netdsl.cli.main import command_line
from netdsl.elaborate import UsageError

NET = """network Small(classes=10, mode="relu") {
    input image: float32[N, 3, 8, 8]
    x = image -> conv(4, 3, padding=1, bias=false) -> batch_norm
    x = if mode == "relu" then relu(x) else tanh(x)
    output logits = x -> global_avg_pool -> flatten -> dense(classes)
}
"""
ROOT = Path(__file__).parents[1]
IMAGE = np.linspace(-1, 1, 2 * 3 * 64, dtype=np.float32).reshape(2, 3, 8, 8)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.net"
    path.write_text(NET)
    return path


def test_import_is_light():
    program = "import sys, netdsl; assert not {'numpy', 'onnx', 'lark', 'click'} & set(sys.modules), netdsl.__version__"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_unknown_names_are_attribute_errors():
    assert not hasattr(netdsl, "compil")
    assert set(netdsl.__all__) <= set(dir(netdsl))


def test_compile_run_save(file, tmp_path):
    model = netdsl.compile(file, set={"classes": 3, "mode": "tanh"})
    assert isinstance(model, netdsl.Model)
    assert model.name == "Small"
    assert str(model.inputs["image"]) == "float32[N, 3, 8, 8]"
    assert str(model.outputs["logits"]) == "float32[N, 3]"
    result = model.run({"image": IMAGE})
    assert result["logits"].shape == (2, 3)
    model.save(tmp_path / "small.onnx")
    saved = onnx.load(tmp_path / "small.onnx")
    assert saved.SerializeToString(deterministic=True) == model.proto.SerializeToString(deterministic=True)


def test_levels_agree(file):
    before = netdsl.compile(file, level=0)
    after = netdsl.compile(str(file), level=2)
    assert "batch_norm" in {n.op.name for n in before.graph.nodes}
    assert "batch_norm" not in {n.op.name for n in after.graph.nodes}
    np.testing.assert_allclose(before.run({"image": IMAGE})["logits"], after.run({"image": IMAGE})["logits"], atol=1e-5)
    assert not before.log.entries
    assert after.log.entries


def test_seed_and_weights(file, tmp_path):
    first = netdsl.compile(file, seed=1, level=0)
    first.save(tmp_path / "one.onnx")
    again = netdsl.compile(file, weights=tmp_path / "one.onnx")
    other = netdsl.compile(file, seed=2)
    expected = first.run({"image": IMAGE})["logits"]
    np.testing.assert_allclose(again.run({"image": IMAGE})["logits"], expected, atol=1e-5)
    assert not np.allclose(other.run({"image": IMAGE})["logits"], expected)


def test_report_is_the_json_object(file):
    report = netdsl.compile(file).report()
    assert report["totals"]["parameters"] == 4 * 27 + 8 + 50
    assert report["totals"]["macs"] == 4 * 27 * 64 + 40


def test_verify(file):
    assert netdsl.compile(file).verify().ok


def test_compile_source_names_the_text():
    assert netdsl.compile_source(NET, network="Small").name == "Small"
    with pytest.raises(netdsl.DiagnosticError) as caught:
        netdsl.compile_source(NET.replace("relu(x)", "relo(x)"), name="mine")
    (diagnostic,) = caught.value.diagnostics
    assert (diagnostic.place.path, diagnostic.place.line) == ("mine", 4)
    assert "relu" in str(caught.value)


def test_missing_file():
    with pytest.raises(netdsl.DiagnosticError, match=r"none\.net"):
        netdsl.compile("none.net")


@pytest.mark.parametrize("options", [{"set": {"clases": 3}}, {"network": "Smal"}])
def test_unknown_names_are_usage_errors(file, options):
    with pytest.raises(UsageError, match=r"classes|Small"):
        netdsl.compile(file, **options)


@pytest.mark.parametrize("options", [{"opset": 16}, {"level": 3}, {"precision": "int4"}])
def test_options_out_of_range(file, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        netdsl.compile(file, **options)


def test_the_report_is_that_of_the_command() -> None:
    """The training step's memory included."""
    path = ROOT / "examples" / "lenet5.net"
    done = CliRunner().invoke(command_line, ["report", str(path), "--format", "json"])
    found = netdsl.compile(path).report()
    assert {**found, "layers": []} == {**json.loads(done.stdout), "layers": []}
    assert found["totals"]["training_peak_bytes"] > found["totals"]["peak_bytes"]
