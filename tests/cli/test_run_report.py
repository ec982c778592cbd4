"""`netdsl run` and `netdsl report` through the real command line."""

import json
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from netdsl.cli.main import command_line

TWO = """network Two(scale=2.0) {
    input a: float32[N, 3]
    input b: float32[N, 3]
    output total = a + scale * b
}

network One {
    input image: float32[N, 1, 4, 4]
    output scores = image -> flatten
}
"""


def invoke(*arguments):
    return CliRunner().invoke(command_line, [*map(str, arguments)])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.net").write_text(TWO)
    np.save("a.npy", np.float32([[1, 2, 3]]))
    np.savez("b.npz", b=np.float32([[10, 20, 30]]), other=np.float32([0]))
    Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)).save("p.png")
    return tmp_path


def test_run_writes_an_archive(folder):
    result = invoke("run", "two.net", "--network", "Two", "--input", "a=a.npy", "--input", "b=b.npz", "-o", "out.npz")
    assert result.exit_code == 0, result.output
    assert np.load("out.npz")["total"].tolist() == [[21, 42, 63]]
    assert result.stdout == ""


def test_run_set(folder):
    arguments = ("--network", "Two", "--set", "scale=1.0", "--input", "a=a.npy", "--input", "b=b.npz")
    assert invoke("run", "two.net", *arguments, "-o", "out.npz").exit_code == 0
    assert np.load("out.npz")["total"].tolist() == [[11, 22, 33]]


def test_run_prints_what_comes_out(folder):
    result = invoke("run", "two.net", "--input", "p.png")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].startswith("scores: float32[1, 16], min 0, max 0.0588235, mean 0.0294118")
    assert result.stdout.splitlines()[1] == (
        "  top 5: 15 (0.0588235), 14 (0.054902), 13 (0.0509804), 12 (0.0470588), 11 (0.0431373)"
    )


def test_run_an_onnx_file(folder):
    assert invoke("compile", "two.net").exit_code == 0
    result = invoke("run", "two.onnx", "--input", "image=p.png", "-o", "out.npz")
    assert result.exit_code == 0, result.output
    assert np.load("out.npz")["scores"] == pytest.approx(np.arange(16)[None] / 255)
    assert invoke("run", "two.onnx", "--input", "p.png", "--set", "N=1").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "a: float32[N, 3]; b: float32[N, 3]"),
        (["--input", "a=a.npy"], "b: float32[N, 3]"),
        (["--input", "a.npy"], "say which input"),
        (["--input", "aa=a.npy"], "no input 'aa'"),
        (["--input", "a=a.npy", "--input", "a=a.npy"], "twice"),
    ],
)
def test_run_inputs_wrongly_named(folder, arguments, says):
    result = invoke("run", "two.net", "--network", "Two", *arguments)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())


def test_run_inputs_that_do_not_fit(folder):
    np.save("a.npy", np.zeros((1, 4), np.float32))
    result = invoke("run", "two.net", "--network", "Two", "--input", "a=a.npy", "--input", "b=b.npz", "-o", "out.npz")
    assert result.exit_code == 1
    assert "a" in result.stderr
    assert "internal" not in result.stderr
    assert not (folder / "out.npz").exists()


def test_run_missing_input_file(folder):
    result = invoke("run", "two.net", "--input", "none.npy")
    assert result.exit_code == 1
    assert "none.npy" in result.stderr


def test_run_a_broken_onnx_file(folder):
    (folder / "bad.onnx").write_bytes(b"nothing")
    for name in ("bad.onnx", "none.onnx"):
        result = invoke("run", name, "--input", "p.png")
        assert result.exit_code == 1
        assert name in result.stderr
        assert "internal" not in result.stderr


def test_cuda_where_there_is_none_is_exit_3(folder, monkeypatch):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    result = invoke("run", "two.net", "--input", "p.png", "--device", "cuda")
    assert result.exit_code == 3
    assert result.stderr.count("\n") == 1
    assert "netdsl[gpu]" in result.stderr


def test_without_onnx_runtime_all_but_run_works(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = invoke("run", "two.net", "--input", "p.png")
    assert result.exit_code == 3
    assert "pip install 'netdsl[cpu]'" in result.stderr
    for command in (["check"], ["fmt", "--check"], ["report"], ["compile"], ["compile", "--verify"]):
        result = invoke(*command, "two.net")
        assert result.exit_code == 0, result.output
    assert (folder / "two.onnx").exists()


def test_report_formats_to_files(folder):
    for form, sign in (("json", "{"), ("csv", "path,"), ("markdown", "# One"), ("html", "<!doctype"), ("table", "One")):
        result = invoke("report", "two.net", "--format", form, "-o", f"out.{form}")
        assert result.exit_code == 0, result.output
        assert result.stdout == ""
        assert (folder / f"out.{form}").read_text().startswith(sign)


def test_report_for_one_item_unless_set(folder):
    def totals(*arguments):
        return json.loads(invoke("report", "two.net", "--network", "Two", "--format", "json", *arguments).stdout)[
            "totals"
        ]

    assert totals()["activation_bytes"] * 8 == totals("--set", "N=8")["activation_bytes"]


def test_report_compare(folder):
    result = invoke("report", "two.net", "--compare", "two.net")
    assert result.exit_code == 0
    assert "1.000" in result.stdout or "ratio" in result.stdout


def test_report_of_an_onnx_file_is_not_there_yet(folder):
    result = invoke("report", "two.onnx")
    assert result.exit_code == 2
    assert ".net" in result.stderr


def test_report_errors_write_nothing(folder):
    (folder / "bad.net").write_text("network M {")
    result = invoke("report", "bad.net", "-o", "out.txt")
    assert result.exit_code == 1
    assert not (folder / "out.txt").exists()
