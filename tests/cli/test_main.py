"""The entry: help, exit statuses, and that no failure shows a traceback."""

import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from netdsl import __version__
from netdsl.cli.main import COMMANDS, command_line
from netdsl.diagnostics import DiagnosticError, error
from netdsl.elaborate import UsageError
from netdsl.runtime.session import EnvironmentLack

ROOT = Path(__file__).parents[2]


def netdsl(*arguments, **options):
    """The real program, in a process of its own."""
    command = [sys.executable, "-m", "netdsl", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=env, check=False, **options)


def invoke(*arguments):
    return CliRunner().invoke(command_line, [*map(str, arguments)])


@pytest.fixture
def failing(monkeypatch):
    """Makes `netdsl boom` raise what is given."""

    def make(failure):
        @click.command("boom")
        def command():
            raise failure

        module = types.ModuleType("netdsl_boom")
        module.command = command
        monkeypatch.setitem(sys.modules, "netdsl_boom", module)
        monkeypatch.setitem(COMMANDS, "boom", ("netdsl_boom", "Fails."))

    return make


def test_help_lists_every_command():
    result = invoke("--help")
    assert result.exit_code == 0
    assert all(name in result.stdout for name in COMMANDS)


SUBCOMMANDS = {"engine": ("install", "list", "remove")}
WHOLE_COMMANDS = [f"{name} {sub}".strip() for name in COMMANDS for sub in SUBCOMMANDS.get(name, ("",))]


@pytest.mark.parametrize("command", WHOLE_COMMANDS)
def test_every_command_takes_help_quiet_and_color(command):
    result = invoke(*command.split(), "--help")
    assert result.exit_code == 0
    assert all(option in result.stdout for option in ("--help", "--quiet", "--color"))
    assert invoke(command, "--color", "sometimes").exit_code == 2


def test_the_top_help_imports_no_command():
    program = (
        "import sys\n"
        "from netdsl.cli.main import command_line\n"
        "command_line.main(['--help'], standalone_mode=False)\n"
        "heavy = {'numpy', 'lark', 'onnx', 'rich', 'netdsl.elaborate', 'netdsl.cli.compile'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_help_imports_nothing_heavy():
    """What makes it answer at once (benchmarks/compile.py measures the time)."""
    run = "command_line(['--help'], standalone_mode=False); print(*sys.modules)"
    script = f"import sys; from netdsl.cli.main import command_line; {run}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"numpy", "onnx", "onnxruntime", "lark", "rich", "PIL", "safetensors"}


def test_version():
    assert __version__ in invoke("--version").stdout


def test_misspelt_command_offers_the_nearest():
    result = invoke("chek", "x.net")
    assert result.exit_code == 2
    assert "'check'" in result.stderr


def test_unknown_option_offers_the_nearest():
    result = invoke("compile", "x.net", "--verfy")
    assert result.exit_code == 2
    assert "--verify" in result.stderr


@pytest.mark.parametrize(
    ("failure", "status", "says"),
    [
        (DiagnosticError([error("odd", "this is odd", path="a.net")]), 1, "a.net: error: this is odd"),
        (UsageError("there is no network 'B'"), 2, "there is no network 'B'"),
        (EnvironmentLack("there is no CUDA device"), 3, "there is no CUDA device"),
        (OSError(28, "No space left on device", "out.onnx"), 1, "out.onnx: No space left on device"),
        (MemoryError(), 1, "not enough memory"),
        (RecursionError("maximum recursion depth exceeded"), 1, "internal error, please report it (RecursionError"),
        (KeyError("x"), 1, "internal error, please report it (KeyError: 'x')"),
        (ModuleNotFoundError("No module named 'rich'", name="rich"), 3, "'rich' is not installed"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(32, "Broken pipe"), 1, ""),
        (click.ClickException("too dark"), 1, "netdsl: error: too dark"),
    ],
)
def test_failures_become_sentences(failing, failure, status, says):
    failing(failure)
    result = invoke("boom")
    assert result.exit_code == status
    assert says in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""
    if not says:
        assert result.stderr.strip() == ""


def test_traceback_on_demand(failing, monkeypatch):
    failing(KeyError("x"))
    monkeypatch.setenv("NETDSL_TRACEBACK", "1")
    assert isinstance(invoke("boom").exception, KeyError)


def test_a_closed_pipe_is_quiet(tmp_path):
    file = tmp_path / "m.net"
    file.write_text("network M {\n input x: float32[N]\n output y = relu(x)\n}\n")
    script = f"{sys.executable} -m netdsl check --format json {file} | true"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.stderr == ""


def test_a_full_disk_behind_stdout_is_a_sentence():
    if not Path("/dev/full").exists():
        return
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "netdsl", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            check=False,
        )
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_nothing(tmp_path, number, status):
    """While the weights are being written: no traceback, the old file whole, no temporary."""
    (tmp_path / "m.net").write_text(
        "network M {\n input x: float32[N, 4000]\n y = x\n repeat 20 { y = y -> dense(4000) }\n output z = y\n}\n"
    )
    (tmp_path / "m.onnx").write_bytes(b"old")
    process = subprocess.Popen(
        [sys.executable, "-m", "netdsl", "compile", "m.net"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    deadline = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 3 and time.monotonic() < deadline:  # its temporary file appears
        time.sleep(0.02)
    process.send_signal(number)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in messages
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.net", "m.onnx"]
    assert (tmp_path / "m.onnx").read_bytes() == b"old"
