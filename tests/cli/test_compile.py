"""`netdsl compile` through the real command line."""

import json
import re

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from netdsl import api
from netdsl.cli import main
from netdsl.ir.text import parse_graph
from netdsl.ops import PRIMITIVES
from netdsl.passes import PASSES

NET = """network Small(classes=10, width=8) {
    input image: float32[N, 3, 16, 16]
    x = image -> conv(width, 3, padding=1, bias=false) as stem -> batch_norm -> relu
    output logits = x -> global_avg_pool -> flatten -> dense(classes)
}
"""


def invoke(*arguments):
    return CliRunner().invoke(main.command_line, [*map(str, arguments)])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.net").write_text(NET)
    return tmp_path


def files(folder):
    return sorted(p.name for p in folder.iterdir())


def test_writes_beside_the_source_with_a_summary_on_stderr(folder):
    result = invoke("compile", "small.net")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert files(folder) == ["small.net", "small.onnx"]
    onnx.checker.check_model(onnx.load("small.onnx"), full_check=True)
    parameters = 8 * 27 + 2 * 8 + 80 + 10
    assert re.search(rf"parameters +{parameters}$", result.stderr, re.M)
    macs = 8 * 27 * 256 + 80
    assert re.search(rf"MACs +{macs:,} -> {macs:,}$", result.stderr, re.M)
    before, after = map(int, re.search(r"nodes +(\d+) -> (\d+)$", result.stderr, re.M).groups())
    assert after < before
    assert re.search(r"kB, opset 21, \d+\.\d\d s$", result.stderr, re.M)


def test_quiet_says_nothing(folder):
    assert invoke("compile", "small.net", "--quiet").output == ""
    assert files(folder) == ["small.net", "small.onnx"]


def test_output_and_set(folder):
    assert invoke("compile", "small.net", "-o", "out.onnx", "--set", "classes=3", "--set", "N=2").exit_code == 0
    model = onnx.load("out.onnx")
    assert [d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim] == [2, 3]


def test_opset(folder):
    assert invoke("compile", "small.net", "--opset", "17").exit_code == 0
    assert onnx.load("small.onnx").opset_import[0].version == 17


def test_the_same_to_the_byte_and_the_seed_counts(folder):
    for name, seed in (("a.onnx", 0), ("b.onnx", 0), ("c.onnx", 1)):
        assert invoke("compile", "small.net", "-o", name, "--seed", seed).exit_code == 0
    a, b, c = ((folder / f"{n}.onnx").read_bytes() for n in "abc")
    assert a == b
    assert a != c


def test_external_data(folder):
    assert invoke("compile", "small.net", "--external-data", "--set", "width=64").exit_code == 0
    model = onnx.load("small.onnx", load_external_data=False)
    (location,) = {e.value for t in model.graph.initializer for e in t.external_data if e.key == "location"}
    assert files(folder) == sorted(["small.net", "small.onnx", location])


def test_weights(folder):
    assert invoke("compile", "small.net", "-O", "0", "--seed", "5", "-o", "five.onnx").exit_code == 0
    assert invoke("compile", "small.net", "-O", "0", "--weights", "five.onnx").exit_code == 0
    assert (folder / "small.onnx").read_bytes() == (folder / "five.onnx").read_bytes()


def test_weights_of_another_network_are_errors_and_nothing_is_written(folder):
    np.savez(folder / "other.npz", **{"stem.wieght": np.zeros((8, 3, 3, 3), np.float32)})
    result = invoke("compile", "small.net", "--weights", "other.npz")
    assert result.exit_code == 1
    assert "stem.weight" in result.stderr
    assert "stem.wieght" in result.stderr
    assert files(folder) == ["other.npz", "small.net"]


def test_missing_weights_file(folder):
    result = invoke("compile", "small.net", "--weights", "none.npz")
    assert result.exit_code == 1
    assert "none.npz" in result.stderr
    assert "internal" not in result.stderr


def test_verify_states_difference_and_tolerance(folder):
    result = invoke("compile", "small.net", "--verify")
    assert result.exit_code == 0
    (line,) = re.findall(r"verified: .*", result.stderr)
    assert "toleran" in line


def test_verify_beyond_the_tolerance_writes_nothing(folder, monkeypatch):
    def wrong(graph, level, log):
        """A pass that swaps the network for one that answers differently."""
        text = NET.replace("-> relu", "-> tanh")
        return api.elaborate(api.SourceFile("wrong.net", text), network=None, settings={}).graph

    monkeypatch.setattr(api, "optimize", wrong)
    result = invoke("compile", "small.net", "--verify")
    assert result.exit_code == 1
    assert "nothing was written" in result.stderr
    assert files(folder) == ["small.net"]


def test_explain_lists_rewrites_with_their_place(folder):
    result = invoke("compile", "small.net", "--explain")
    assert result.exit_code == 0
    assert re.search(r"^small\.net:3:\d+: .*batch_norm.*saves", result.stdout, re.M)


def test_explain_without_rewrites(folder):
    assert invoke("compile", "small.net", "--explain", "-O", "0").stdout == "no rewrites, no refusals\n"


def test_print_ir_reads_back(folder):
    text = invoke("compile", "small.net", "--print-ir", "-O", "0", "--quiet").stdout
    graph = parse_graph(text, PRIMITIVES)
    assert "batch_norm" in {n.op.name for n in graph.nodes}
    folded = parse_graph(invoke("compile", "small.net", "--print-ir", "--quiet").stdout, PRIMITIVES)
    assert len(folded.nodes) != len(graph.nodes)


@pytest.mark.parametrize("name", PASSES)
def test_print_ir_after_every_pass(folder, name):
    result = invoke("compile", "small.net", "--print-ir-after", name, "--quiet")
    assert result.exit_code == 0
    assert parse_graph(result.stdout, PRIMITIVES).name == "Small"


def test_unknown_pass_offers_the_nearest(folder):
    name = next(iter(PASSES))
    result = invoke("compile", "small.net", "--print-ir-after", name + "x")
    assert result.exit_code == 2
    assert repr(name) in result.stderr
    result = invoke("compile", "small.net", "--print-ir-after", name, "-O", "0")
    assert result.exit_code == 2
    assert "does not run at -O 0" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--opset", "16"], "16"),
        (["--opset", "27"], "27"),
        (["-O", "3"], "3"),
        (["--precision", "int8"], "calibration"),
        (["--set", "classes"], "name=value"),
        (["--set", "clases=3"], "classes"),
        (["--set", "M=3"], "M"),
        (["--network", "Smal"], "Small"),
        (["-o", "small.net"], "is the model itself"),
    ],
)
def test_wrong_usage(folder, arguments, says):
    result = invoke("compile", "small.net", *arguments)
    assert result.exit_code == 2, result.output
    assert says in result.stderr
    assert files(folder) == ["small.net"]
    assert (folder / "small.net").read_text() == NET


def test_onnx_is_no_source(folder):
    assert invoke("compile", "model.onnx").exit_code == 2


def test_errors_write_nothing(folder):
    (folder / "bad.net").write_text(NET.replace("relu", "relo").replace("flatten", "flaten"))
    result = invoke("compile", "bad.net")
    assert result.exit_code == 1
    assert result.stderr.count("error:") == 2
    assert files(folder) == ["bad.net", "small.net"]


def test_missing_source(folder):
    result = invoke("compile", "none.net")
    assert result.exit_code == 1
    assert result.stderr.startswith("none.net: error:")


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("nowhere/out.onnx", "nowhere: there is no such directory"),
        (".", "is a directory"),
        ("small.net/x", "small.net"),
    ],
)
def test_output_that_cannot_be_written(folder, output, says):
    result = invoke("compile", "small.net", "-o", output)
    assert result.exit_code == 1
    assert says in result.stderr
    assert result.stderr.count("\n") == 1
    assert files(folder) == ["small.net"]


def test_a_full_disk_leaves_the_old_file_whole(folder, monkeypatch):
    (folder / "small.onnx").write_bytes(b"old")
    monkeypatch.setattr("os.fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    result = invoke("compile", "small.net")
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr
    assert (folder / "small.onnx").read_bytes() == b"old"
    assert files(folder) == ["small.net", "small.onnx"]


def test_report_of_what_was_compiled(folder):
    result = invoke("report", "small.net", "--format", "json")
    assert result.exit_code == 0
    made = json.loads(result.stdout)
    assert made["network"] == "Small"
    assert made["totals"]["parameters"] == 8 * 27 + 2 * 8 + 80 + 10
    assert made["totals"]["buffers"] == 16
    assert [layer["path"] for layer in made["layers"]][:2] == ["stem", "batch_norm"]
    assert made["layers"][0]["source"] == "small.net:3:18"
    assert [s["name"] for s in made["state"]][:2] == ["stem.weight", "batch_norm.weight"]
