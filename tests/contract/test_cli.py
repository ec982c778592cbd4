"""The contract of the command line and the Python API, sentence by sentence, as a program outside would check it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import save_file

import netdsl
from netdsl.cli.main import COMMANDS, command_line

NET = """network Other { input x: float32[N, 4] output y = x -> dense(2) }

network Small(classes=10, width=8, act=relu, sizes=[3]) {
    input image: float32[N, 3, 32*h, 32*w]
    x = image -> conv(width, 3, stride=2, padding=1, bias=false) as stem -> batch_norm -> act
    for size in sizes { x = x -> conv(width, size, padding=size//2) as body -> act }
    output features = x
    output logits = x -> global_avg_pool -> flatten -> dense(classes) as head
}
"""
BYTES = ["activation_bytes", "peak_bytes", "training_peak_bytes", "weight_bytes"]
STATE = [
    ("stem.weight", [8, 3, 3, 3], "parameter", "he_normal"),
    ("batch_norm.weight", [8], "parameter", "ones"),
    ("batch_norm.bias", [8], "parameter", "zeros"),
    ("batch_norm.running_mean", [8], "buffer", "zeros"),
    ("batch_norm.running_var", [8], "buffer", "ones"),
    ("body.weight", [8, 8, 3, 3], "parameter", "he_normal"),
    ("body.bias", [8], "parameter", "zeros"),
    ("head.weight", [10, 8], "parameter", "xavier_uniform"),
    ("head.bias", [10], "parameter", "zeros"),
]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command_line, [*map(str, arguments)])


def done(*arguments: object) -> Result:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "small.net").write_text(NET)
    return tmp_path


def initializers(path: str) -> dict[str, np.ndarray[Any, Any]]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def weights() -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(3)
    return {name: np.abs(rng.normal(size=shape)).astype(np.float32) for name, shape, *_ in STATE}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_common_options(name: str) -> None:
    command = command_line.get_command(click.Context(command_line), name)
    parts = [[name, part] for part in command.commands] if isinstance(command, click.Group) else [[name]]
    for part in parts:
        text = done(*part, "--help").stdout
        assert all(option in text for option in ("--help", "--quiet", "--color [auto|always|never]")), part


def test_report_object_key_by_key(folder: Path) -> None:
    result = done("report", "nets/small.net", "--format", "json")
    made = json.loads(result.stdout)
    assert list(made)[:6] == ["network", "inputs", "outputs", "totals", "layers", "state"]
    assert made["network"] == "Small"
    assert made["inputs"] == {"image": ["float32", ["N", 3, "32*h", "32*w"]]}
    assert made["outputs"] == {
        "features": ["float32", ["N", 8, "16*h", "16*w"]],
        "logits": ["float32", ["N", 10]],
    }
    assert list(made["totals"]) == ["parameters", "trainable", "buffers", "macs", "flops", *BYTES]
    assert (made["totals"]["parameters"], made["totals"]["buffers"]) == (216 + 16 + 584 + 90, 16)
    assert made["totals"]["macs"] == f"{256 * (216 + 576)}*h*w + 80"
    assert made["layers"][0] == {
        "path": "stem",
        "op": "conv",
        "outputs": [["N", 8, "16*h", "16*w"]],
        "parameters": 216,
        "macs": f"{256 * 216}*h*w",
        "flops": f"{512 * 216}*h*w",
        "receptive_field": {"size": [3, 3], "stride": [2, 2], "offset": [-1, -1]},
        "source": "nets/small.net:5:18",
    }
    assert [tuple(s[k] for k in ("name", "shape", "kind", "initializer")) for s in made["state"]] == STATE
    assert {tuple(s) for s in made["state"]} == {("name", "shape", "dtype", "kind", "trainable", "initializer")}
    assert [s["trainable"] for s in made["state"]] == [kind == "parameter" for _, _, kind, _ in STATE]


def test_figures_are_integers_where_every_symbol_has_a_value(folder: Path) -> None:
    made = json.loads(done("report", "nets/small.net", "--format", "json", "--set", "h=1", "--set", "w=2").stdout)
    assert made["totals"]["macs"] == 512 * (216 + 576) + 80
    double = json.loads(
        done("report", "nets/small.net", "--format", "json", "--set", "h=1", "--set", "w=2", "--set", "N=2").stdout
    )
    assert double["totals"]["macs"] == 2 * made["totals"]["macs"]
    assert double["totals"]["parameters"] == made["totals"]["parameters"]


def test_both_conventions_are_stated_in_every_format(folder: Path) -> None:
    for form in ("table", "json", "csv", "markdown", "html"):
        text = done("report", "nets/small.net", "--format", form).stdout
        assert "without bias" in text, form
        assert "2 per MAC" in text, form


def test_report_goes_to_stdout_or_the_file(folder: Path) -> None:
    shown = done("report", "nets/small.net", "--format", "csv")
    kept = done("report", "nets/small.net", "--format", "csv", "-o", "r.csv")
    assert (shown.stderr, kept.stdout) == ("", "")
    assert Path("r.csv").read_text() == shown.stdout


def test_names_symbols_and_places_in_the_model(folder: Path) -> None:
    done("compile", "nets/small.net", "-O", "0", "--quiet")
    graph = onnx.load("nets/small.onnx").graph
    assert [n.name for n in graph.node][:4] == ["stem", "batch_norm", "relu", "body"]
    assert [n.output[0] for n in graph.node][:2] == ["stem", "batch_norm"]
    assert {t.name for t in graph.initializer} == {name for name, *_ in STATE}
    places = {n.name: {p.key: p.value for p in n.metadata_props}["source"] for n in graph.node}
    assert places["stem"] == "nets/small.net:5:18"
    shapes = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.value_info}
    assert shapes["stem"] == ["N", 8, "16*h", "16*w"]
    assert [d.dim_param for d in graph.input[0].type.tensor_type.shape.dim] == ["N", "", "32*h", "32*w"]


@pytest.mark.parametrize("level", [1, 2])
def test_folded_weights_have_names_of_their_own(folder: Path, level: int) -> None:
    done("compile", "nets/small.net", "-O", level, "-o", "m.onnx")
    names = list(initializers("m.onnx"))
    assert names[:3] == ["stem.weight/folded", "stem.bias/folded", "body.weight"]
    assert not [name for name in names if "#" in name]
    result = invoke("compile", "nets/small.net", "--weights", "m.onnx", "-o", "again.onnx")
    assert result.exit_code == 1
    assert "compile it with -O 0" in result.stderr
    assert len(result.stderr.splitlines()) < 10
    assert not Path("again.onnx").exists()


def test_byte_identical_and_independent_of_other_layers(folder: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        done("compile", "nets/small.net", "-o", name, "--seed", 7)
    assert Path("a.onnx").read_bytes() == Path("b.onnx").read_bytes()
    Path("more.net").write_text(NET.replace("-> batch_norm ->", "-> batch_norm -> conv(8, 1) as extra ->"))
    done("compile", "more.net", "-O", "0", "-o", "more.onnx", "--seed", 7)
    done("compile", "nets/small.net", "-O", "0", "-o", "less.onnx", "--seed", 7)
    less, more = initializers("less.onnx"), initializers("more.onnx")
    assert set(more) - set(less) == {"extra.weight", "extra.bias"}
    assert all(np.array_equal(array, more[name]) for name, array in less.items())


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_weights_under_their_own_names(folder: Path, suffix: str) -> None:
    held = weights()
    held["unused.weight"] = np.zeros(3, np.float32)
    if suffix == ".npz":
        np.savez(f"w{suffix}", **held)
    else:
        save_file(held, f"w{suffix}")
    done("compile", "nets/small.net", "-O", "0", "--weights", f"w{suffix}", "-o", "m.onnx")
    found = initializers("m.onnx")
    assert all(np.array_equal(array, held[name]) for name, array in found.items())
    del held["head.weight"]
    held["heed.weight"] = held.pop("head.bias")
    np.savez("bad.npz", **held)
    result = invoke("compile", "nets/small.net", "--weights", "bad.npz", "-o", "bad.onnx")
    assert result.exit_code == 1
    assert "head.weight" in result.stderr
    assert "heed.weight" in result.stderr
    assert not Path("bad.onnx").exists()


def test_values_are_expressions_else_text(folder: Path) -> None:
    arguments = ["--set", "classes=2*3+1", "--set", "act=gelu", "--set", "sizes=[3, 5]", "--set", "N=2"]
    done("compile", "nets/small.net", *arguments, "-O", "0", "-o", "m.onnx", "--quiet")
    graph = onnx.load("m.onnx").graph
    assert [n.op_type for n in graph.node].count("Gelu") == 3
    assert [d.dim_value for d in graph.output[1].type.tensor_type.shape.dim] == [2, 7]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--set", "clases=3"], "classes"),
        (["--set", "N=0"], "positive integer"),
        (["--network", "Smal"], "Small"),
        (["--color", "sometimes"], "--color"),
        (["--nope"], "--nope"),
    ],
)
@pytest.mark.parametrize("name", ["compile", "report", "run"])
def test_wrong_usage_is_status_2_on_stderr(folder: Path, name: str, arguments: list[str], says: str) -> None:
    result = invoke(name, "nets/small.net", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert says in result.stderr


def test_networks_of_a_file(folder: Path) -> None:
    assert json.loads(done("report", "nets/small.net", "--format", "json").stdout)["network"] == "Small"
    other = done("report", "nets/small.net", "--format", "json", "--network", "Other", "--set", "N=3")
    assert json.loads(other.stdout)["outputs"] == {"y": ["float32", [3, 2]]}


def test_errors_are_status_1_and_write_nothing(folder: Path) -> None:
    Path("bad.net").write_text(NET.replace("dense(classes)", "dens(classes)"))
    for name in ("compile", "check", "report", "run"):
        result = invoke(name, "bad.net")
        assert (result.exit_code, result.stdout) == (1, ""), name
        assert "bad.net:8:56: error:" in result.stderr
        assert "dense" in result.stderr
    assert sorted(p.name for p in folder.iterdir()) == ["bad.net", "nets"]
    assert "\x1b[" in invoke("check", "bad.net", "--color", "always").stderr
    assert "\x1b[" not in invoke("check", "bad.net", "--color", "never").stderr
    (first,) = json.loads(invoke("check", "bad.net", "--format", "json").stdout)
    assert (first["file"], first["line"], first["column"], first["severity"]) == ("bad.net", 8, 56, "error")


def test_fmt(folder: Path) -> None:
    Path("a.net").write_text("network A{input x:float32[N,4]\n# why\noutput y=x->relu}")
    result = invoke("fmt", "--check", "a.net")
    assert (result.exit_code, result.stdout) == (1, "a.net\n")
    done("fmt", "a.net")
    text = Path("a.net").read_text()
    assert "# why" in text
    assert done("fmt", "--check", "a.net").stdout == ""
    assert done("fmt", "a.net", "--quiet").output == ""
    assert Path("a.net").read_text() == text


def test_bfloat16_says_what_a_cpu_does_with_it(folder: Path) -> None:
    arguments = ("compile", "nets/small.net", "-o", "m.onnx", "--precision")
    assert done(*arguments, "bfloat16").stderr.count("widen to float32") == 1
    assert "widen" not in done(*arguments, "float16").stderr
    assert done(*arguments, "bfloat16", "--quiet").output == ""


def test_python(folder: Path) -> None:
    save_file(
        weights() | {"head.weight": np.ones((3, 8), np.float32), "head.bias": np.zeros(3, np.float32)}, "w.safetensors"
    )
    model = netdsl.compile("nets/small.net", set={"classes": 3}, weights="w.safetensors")
    assert model.inputs["image"].dtype.name == "float32"
    assert model.report() == json.loads(
        done("report", "nets/small.net", "--set", "classes=3", "--format", "json").stdout
    )
    results = model.run({"image": np.ones((2, 3, 32, 64), np.float32)})
    assert {name: array.shape for name, array in results.items()} == {"features": (2, 8, 16, 32), "logits": (2, 3)}
    model.save("m.onnx")
    assert onnx.load("m.onnx") == model.proto
    assert model.graph.name == "Small"
    assert netdsl.compile_source(NET, network="Other").name == "Other"
    with pytest.raises(netdsl.DiagnosticError) as caught:
        netdsl.compile_source(NET.replace("dense(classes)", "dens(classes)"))
    (diagnostic,) = caught.value.diagnostics
    assert (diagnostic.severity.value, diagnostic.place.line if diagnostic.place else 0) == ("error", 8)


def test_the_same_answer_as_before_the_rewrites(folder: Path) -> None:
    for opset in (17, 21, 26):
        result = done(
            "compile", "nets/small.net", "--verify", "--opset", opset, "-o", "m.onnx", "--set", "sizes=[1, 3]"
        )
        assert "verified: " in result.stderr
        assert "tolerance" in result.stderr
        onnx.checker.check_model(onnx.load("m.onnx"), full_check=True)
