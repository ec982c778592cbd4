"""What goes wrong around the engine: its process, its environment, recipes that it cannot do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from netdsl.diagnostics import DiagnosticError
from netdsl.ir.types import NDArrayAny
from netdsl.runtime.session import EnvironmentLack
from netdsl.training.checkpoint import load
from netdsl.training.engines.onnxruntime_training import environment as env
from netdsl.training.engines.onnxruntime_training.engine import OrtTrainingEngine
from netdsl.training.engines.onnxruntime_training.process import EngineFailure, EngineProcess
from netdsl.training.engines.onnxruntime_training.wire import blob
from netdsl.training.initial import initial_weights
from netdsl.training.job import Job, Machine, train_job
from tests.training.engine_ort.networks import batch_of, job_of, small

MACHINE = Machine("onnxruntime-training", "cpu", 1)


def made(job: Job) -> OrtTrainingEngine:
    engine = job.engine(MACHINE, initial_weights(job.recipe, job.graph, Path()))
    assert isinstance(engine, OrtTrainingEngine)
    return engine


def ended(pid: int, patience: float = 10.0) -> bool:
    """Whether a process is gone, or waits for its parent to notice."""
    for _ in range(int(patience / 0.05)):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def data(folder: Path, items: int = 32) -> Path:
    rng = np.random.default_rng(0)
    arrays: dict[str, NDArrayAny] = {"image": rng.normal(size=(items, 3, 8, 8)).astype(np.float32)}
    arrays["label"] = rng.integers(0, 4, items)
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGKILL, "was killed (SIGKILL)"), (signal.SIGSEGV, "crashed (SIGSEGV)")]
)
def test_an_engine_that_ends_is_a_clear_error(engine: Path, number: signal.Signals, said: str) -> None:
    made_engine, batch = made(small()), batch_of(small())
    made_engine.step(batch, rate=0.1, seed=0)
    os.kill(made_engine.process.pid, number)
    with pytest.raises(DiagnosticError) as failure:
        for _ in range(3):
            made_engine.step(batch, rate=0.1, seed=1)
    message = failure.value.diagnostics[0].message
    assert said in message
    assert "--resume goes on" in message
    made_engine.close()
    made_engine.close()
    assert ended(made_engine.process.pid)


def test_a_killed_engine_loses_no_checkpoint(engine: Path, tmp_path: Path) -> None:
    job, source = small(), data(tmp_path)
    checkpoint = tmp_path / "small.safetensors"

    class Killer:
        """A display that ends the engine in the second epoch."""

        def __getattr__(self, name: str):  # type: ignore[no-untyped-def]  # stands for every method
            def call(*arguments: object, **more: object) -> None:
                if name == "begin" and checkpoint.exists():
                    for pid in children():
                        os.kill(pid, signal.SIGKILL)

            return call

    with pytest.raises(DiagnosticError, match="was killed"):
        train_job(job, source, None, checkpoint, MACHINE, display=Killer())  # type: ignore[arg-type]  # stands for one
    weights = {p.name: p.value.type for p in job.graph.parameters}
    assert load(checkpoint, weights).progress.epoch == 1
    outcome = train_job(job, source, None, checkpoint, MACHINE, resume=True)
    assert outcome.epochs == 2


def children() -> list[int]:
    """The processes that this one started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            found.append(int(stat.parent.name))
    return found


PARENT = """
import sys, time
from pathlib import Path
from netdsl.training.engines.onnxruntime_training.process import EngineProcess
process = EngineProcess(Path(sys.argv[1]), "")
print(process.pid, flush=True)
time.sleep(60)
"""


def test_no_orphan_when_netdsl_is_killed(engine: Path) -> None:
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(engine)], stdout=subprocess.PIPE, text=True, cwd=root
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
    assert ended(pid)


def test_two_trainings_at_once(engine: Path) -> None:
    """Each has a process of its own, and they do not disturb each other."""
    job, batch = small(), batch_of(small())
    pair = [made(job), made(job)]
    losses = [[e.step(batch, rate=0.05, seed=number).loss for e in pair] for number in range(3)]
    assert all(one == two for one, two in losses)
    assert pair[0].process.pid != pair[1].process.pid
    for e in pair:
        e.close()


def test_a_model_that_the_engine_cannot_read_is_its_failure_not_its_end(engine: Path) -> None:
    process = EngineProcess(engine, "")
    with pytest.raises(EngineFailure):
        process.ask("gradients", {"model": blob(b"no model")}, trained=[])
    assert process.ask("hello").about["onnxruntime"] == env.VERSION
    process.close()


def test_an_overflow_is_explained(engine: Path) -> None:
    e, batch = made(small(dropout=0.0)), batch_of(small())
    batch["image"] = np.full_like(batch["image"], 1e38)
    result = e.step(batch, rate=1.0, seed=0)
    assert not np.isfinite(result.loss)
    assert "first" in e.explain_overflow(batch) or "bn" in e.explain_overflow(batch)
    e.close()


# Recipes -------------------------------------------------------------------------------------------------------------

UNABLE = """network Unable {
    input x: float32[N, 2, H]
    y = x -> conv(2, 3, padding=1) as before
    output z = y[:, :, ::-1] -> global_avg_pool -> flatten
}
train Unable {
    target t: float32[N, 2]
    loss = mse(z, t)
    optimizer = sgd(0.1)
}
"""


def test_what_it_cannot_do_is_refused_before_it_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Even where the engine is not installed: the graph alone decides."""
    monkeypatch.setenv("NETDSL_CACHE", str(tmp_path))
    with pytest.raises(DiagnosticError) as refused:
        job_of(UNABLE).engine(MACHINE)
    (diagnostic,) = refused.value.diagnostics
    assert "cannot train through slice with a negative step on a symbolic axis" in diagnostic.message
    assert diagnostic.span is not None
    assert any("--engine standard" in line for line in diagnostic.help)


def test_precision_is_refused() -> None:
    with pytest.raises(DiagnosticError, match="does not have precision = bfloat16"):
        small(more='precision = "bfloat16"').engine(MACHINE)
    text = UNABLE.replace("float32", "float64").replace("[:, :, ::-1]", "")
    with pytest.raises(DiagnosticError, match="does not have float64 parameters, as before"):
        job_of(text).engine(MACHINE)


# Environments --------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("NETDSL_CACHE", str(tmp_path))
    monkeypatch.setattr(env, "here", lambda variant: False)
    return tmp_path


def test_an_engine_that_is_not_installed(cache: Path) -> None:
    with pytest.raises(EnvironmentLack, match="is not installed: netdsl engine install onnxruntime-training"):
        env.find_python("cpu")


def test_a_half_made_environment_is_not_used(cache: Path) -> None:
    env.environment("cpu").python.parent.mkdir(parents=True)
    env.environment("cpu").python.touch()
    assert env.environment("cpu").state == "broken"
    with pytest.raises(EnvironmentLack, match="incomplete: netdsl engine install onnxruntime-training makes it anew"):
        env.find_python("auto")
    assert env.remove("cpu")
    assert not env.remove("cpu")
    assert env.environment("cpu").state == "absent"


def test_an_environment_of_another_version_is_made_anew(cache: Path) -> None:
    place = env.environment("cpu")
    place.python.parent.mkdir(parents=True)
    place.python.touch()
    (place.folder / "netdsl-engine.json").write_text('{"packages": ["onnxruntime-training-cpu==1.0"]}')
    assert place.state == "broken"


def test_a_broken_interpreter_is_one_sentence(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no numpy here >&2\nexit 3\n")
    python.chmod(0o755)
    with pytest.raises(EnvironmentLack, match=r"environment is broken \(no numpy here\); repair it"):
        EngineProcess(python, "repair it")
    with pytest.raises(EnvironmentLack, match="environment is broken"):
        EngineProcess(tmp_path / "nowhere", "repair it")


def test_no_python_with_a_wheel_is_one_sentence(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env, "find_interpreter", lambda versions: None)
    with pytest.raises(
        EnvironmentLack, match=r"wheels for Python 3\.11 or Python 3\.12 alone \(cpu\), and none was found"
    ):
        env.install("cpu")


def test_an_installation_that_fails_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env, "PINNED", ())
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(EnvironmentLack, match="packages could not be installed: "):
        env.install("cpu")
    assert list((cache / "engines").iterdir()) == []


def test_an_environment_that_holds_the_engine_is_used(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(env, "here", lambda variant: variant == "cpu")
    assert env.find_python("auto") == Path(sys.executable)
    assert env.install("cpu") == Path(sys.executable)
