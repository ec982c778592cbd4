"""The trainer around a small engine: what it hands to the engine, when it ends, and that it can go on."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from netdsl.diagnostics import DiagnosticError
from netdsl.ir.recipe import EarlyStop, FreezeRule, MetricSpec, OptimizerSpec, ScheduleSpec
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.training import checkpoint as files
from netdsl.training.engines.base import Phase, StepResult
from netdsl.training.loop import Outcome, Trainer, step_seed
from netdsl.training.progress import Lines, Position, Silent
from netdsl.training.run_folder import RunFolder
from netdsl.weights import load_checkpoint
from tests.training.linear_engine import LinearEngine, data, recipe, write_data

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_data(tmp_path)
    return tmp_path


def trainer(folder: Path, engine: LinearEngine | None = None, name: str = "m", **changes: object) -> Trainer:
    train, validation = data(folder / "data.npz")
    return Trainer(
        recipe(**changes), engine or LinearEngine(), train, validation, checkpoint=folder / f"{name}.safetensors"
    )


def train(folder: Path, engine: LinearEngine | None = None, name: str = "m", **changes: object) -> Outcome:
    return trainer(folder, engine, name, **changes).run()


def test_it_learns(folder: Path) -> None:
    outcome = train(folder, epochs=30)
    assert outcome.epochs == 30 and not outcome.interrupted
    assert outcome.record["val"]["loss"] < 0.05
    assert outcome.record["val"]["error"] == pytest.approx(outcome.record["val"]["loss"])
    weights = load_checkpoint(folder / "m.safetensors").read("layer.weight")
    np.testing.assert_allclose(weights.astype(float), [1, 2, 3, 4, 5], atol=0.15)


def test_groups_of_batches_share_by_their_items(folder: Path) -> None:
    engine = LinearEngine()
    train(folder, engine, accumulate=3, epochs=1)  # 49 items: batches of 8, the last of 1
    assert [(phase, pytest.approx(share)) for _, _, phase, share in engine.calls] == [
        ("first", 1 / 3),
        ("middle", 1 / 3),
        ("last", 1 / 3),
        ("first", 1 / 3),
        ("middle", 1 / 3),
        ("last", 1 / 3),
        ("only", 1.0),
    ]


def test_accumulating_equals_one_large_batch(folder: Path) -> None:
    small, large = LinearEngine(), LinearEngine()
    train(folder, small, batch=7, accumulate=3)
    train(folder, large, batch=21)
    for name in small.weights:
        np.testing.assert_allclose(small.held[name], large.held[name], rtol=1e-4)


def test_rates_and_seeds_of_the_steps(folder: Path) -> None:
    engine = LinearEngine()
    train(folder, engine, schedule=ScheduleSpec.of("step", {"step_size": 1, "gamma": 0.5}), epochs=2)
    assert [rate for rate, *_ in engine.calls] == pytest.approx([0.02] * 7 + [0.01] * 7)
    seeds = [seed for _, seed, *_ in engine.calls]
    assert seeds == [step_seed(3, n) for n in range(14)]
    assert len(set(seeds)) == 14 and all(0 <= seed < 2**31 for seed in seeds)


def test_plateau_and_early_stopping_watch_the_validation(folder: Path) -> None:
    engine = LinearEngine()
    outcome = train(
        folder,
        engine,
        epochs=60,
        early_stop=EarlyStop("error", patience=6),
        schedule=ScheduleSpec.of("plateau", {"patience": 1, "monitor": "error"}),
    )
    assert outcome.stopped_early and outcome.epochs < 60
    assert outcome.best_epoch == outcome.epochs - 6
    assert engine.calls[-1][0] < 0.02


def test_freezing_by_epoch(folder: Path) -> None:
    engine = LinearEngine()
    rules = {"freeze": (FreezeRule("layer.*"),), "unfreeze": (FreezeRule("*.bias"), FreezeRule("*.weight", 2))}
    train(folder, engine, epochs=2, **rules)
    assert not engine.held["layer.weight"].any() and engine.held["layer.bias"]
    other = LinearEngine()
    train(folder, other, epochs=3, **rules)
    assert other.held["layer.weight"].all()
    with pytest.raises(DiagnosticError, match=r"unfreeze = 'layer\.bais' matches no parameter"):
        trainer(folder, unfreeze=(FreezeRule("layer.bais"),))


def test_an_unknown_monitor_names_the_nearest(folder: Path) -> None:
    with pytest.raises(DiagnosticError, match="did you mean 'error'"):
        trainer(folder, early_stop=EarlyStop("eror"))


@pytest.mark.parametrize("ahead", [0, 1])
def test_divergence_stops_the_run_and_keeps_the_checkpoint(folder: Path, ahead: int) -> None:
    train(folder, epochs=1)
    before = (folder / "m.safetensors").read_bytes()
    optimizer = OptimizerSpec.of("sgd", {"lr": 1e19})
    wild = trainer(folder, LinearEngine(ahead=ahead), optimizer=optimizer, epochs=2)
    wild.resume()
    with pytest.raises(DiagnosticError) as caught, np.errstate(all="ignore"):
        wild.run()
    text = str(caught.value)
    assert re.search(r"the loss became (NaN|infinite) in batch \d+ \(epoch 2, update \d+\)", text)
    assert "it began in layer: its output is not finite" in text and "clip_norm" in text and "1e+19" in text
    assert (folder / "m.safetensors").read_bytes() == before


def test_weights_that_are_not_finite_are_not_saved(folder: Path) -> None:
    class Overflowing(LinearEngine):
        def state(self) -> Mapping[str, NDArrayAny]:
            return {**self.held, "layer.bias": np.asarray(np.nan, np.float32)}

    with pytest.raises(DiagnosticError, match=r"layer\.bias became NaN \(epoch 1, update 7\).* no checkpoint was"):
        train(folder, Overflowing())
    assert not (folder / "m.safetensors").exists()


class Stopped(LinearEngine):
    """Presses Ctrl-C in one of its calls."""

    def __init__(self, at: int, *, evaluating: bool = False, ahead: int = 0) -> None:
        super().__init__(noise=0.1, ahead=ahead)
        self.at, self.evaluating, self.evaluated = at, evaluating, 0

    def step(
        self, batch: Mapping[str, NDArrayAny], *, rate: float, seed: int, phase: Phase = "only", share: float = 1.0
    ) -> StepResult:
        if len(self.calls) == self.at and not self.evaluating:
            os.kill(os.getpid(), signal.SIGINT)
        return super().step(batch, rate=rate, seed=seed, phase=phase, share=share)

    def evaluate(self, batch: Mapping[str, NDArrayAny]) -> StepResult:
        self.evaluated += 1
        if self.evaluated == self.at and self.evaluating:
            os.kill(os.getpid(), signal.SIGINT)
        return super().evaluate(batch)


RESUMABLE = {
    "epochs": 5,
    "accumulate": 2,
    "schedule": ScheduleSpec.of("plateau", {"patience": 0, "warmup": 0.2}),
    "metrics": (MetricSpec.of("error", "mse"), MetricSpec("spread", "scalar", ("error/sum",))),
    "freeze": (FreezeRule("*.bias", 3),),
}


def test_steps_that_are_made_in_advance_change_nothing(folder: Path) -> None:
    """The same steps, numbers and checkpoint, however late an engine gives its results."""
    engines = [LinearEngine(noise=0.1, ahead=ahead) for ahead in (0, 1, 3)]
    outcomes = [train(folder, engine, f"m{engine.ahead}", **RESUMABLE) for engine in engines]
    kept = [(folder / f"m{engine.ahead}.safetensors").read_bytes() for engine in engines]
    assert kept[0] == kept[1] == kept[2]
    assert engines[0].calls == engines[1].calls == engines[2].calls
    records = [{**outcome.record, "seconds": 0} for outcome in outcomes]
    assert records[0] == records[1] == records[2]


def test_checkpoints_within_an_epoch_hold_the_steps_that_were_reported(folder: Path) -> None:
    """With an engine that works in advance: each of them, taken for the end of a run, goes on to the same bytes."""
    train(folder, LinearEngine(noise=0.1), "whole", **RESUMABLE)
    checkpoint, positions = folder / "m.safetensors", set[tuple[int, int]]()
    saving = trainer(folder, LinearEngine(noise=0.1, ahead=1), **RESUMABLE)
    saving._save_every = 0.0

    class Copying(Silent):
        """Keeps each checkpoint that is there when a batch is done."""

        def batch(self, position: Position) -> None:
            if checkpoint.exists():
                saved = files.load(checkpoint, saving.engine.weights).progress
                if (saved.epoch, saved.batch) not in positions:
                    positions.add((saved.epoch, saved.batch))
                    (folder / f"at{len(positions)}.safetensors").write_bytes(checkpoint.read_bytes())

    saving.display = Copying()
    saving.run()
    assert {batch for _, batch in positions} == {0, 2, 4, 6}  # ends of groups
    for number in range(1, len(positions) + 1, 3):
        later = trainer(folder, LinearEngine(noise=0.1, ahead=1), f"at{number}", **RESUMABLE)
        later.resume()
        later.run()
        assert (folder / f"at{number}.safetensors").read_bytes() == (folder / "whole.safetensors").read_bytes()


@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize("evaluating, at", [(False, 0), (False, 9), (False, 13), (False, 30), (True, 1), (True, 4)])
def test_ctrl_c_and_resume_equal_a_run_that_went_on(folder: Path, evaluating: bool, at: int, ahead: int) -> None:
    whole = train(folder, LinearEngine(noise=0.1), "whole", **RESUMABLE)
    lines: list[str] = []
    first = trainer(folder, Stopped(at, evaluating=evaluating, ahead=ahead), **RESUMABLE)
    first.display = Lines(lines.append)
    assert first.run().interrupted
    assert "--resume" in lines[-1] and "m.safetensors" in lines[-1]
    second = trainer(folder, LinearEngine(noise=0.1), **RESUMABLE)
    second.resume()
    outcome = second.run()
    assert (folder / "m.safetensors").read_bytes() == (folder / "whole.safetensors").read_bytes()
    assert {**outcome.record, "seconds": 0} == {**whole.record, "seconds": 0}
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def run_program(folder: Path, kill_at: int, how: str) -> int:
    command = [sys.executable, "-m", "tests.training.linear_engine", str(folder), str(kill_at), how]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def test_a_killed_process_resumes_to_the_same_bytes(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    calm = tmp_path_factory.mktemp("calm")
    write_data(calm)
    assert run_program(calm, -1, "start") == 0
    assert run_program(folder, 5, "start") == -signal.SIGKILL
    assert run_program(folder, 12, "resume") == -signal.SIGKILL
    assert run_program(folder, -1, "resume") == 0
    assert (folder / "model.safetensors").read_bytes() == (calm / "model.safetensors").read_bytes()
    runs = [(f / "model.run" / "metrics.jsonl").read_text().splitlines() for f in (folder, calm)]
    kept = [[{**json.loads(line), "seconds": 0} for line in lines] for lines in runs]
    assert kept[0] == kept[1] and [r["epoch"] for r in kept[0]] == [1, 2, 3, 4]
    assert not list(folder.rglob("*.tmp"))


def test_more_epochs_after_the_end(folder: Path) -> None:
    train(folder, epochs=2)
    longer = trainer(folder, epochs=4)
    longer.resume()
    assert longer.run().epochs == 4
    whole = LinearEngine()
    train(folder, whole, "whole", epochs=4)
    np.testing.assert_array_equal(longer.engine.state()["layer.weight"], whole.held["layer.weight"])


def test_what_changed_since_is_said(folder: Path) -> None:
    train(folder, epochs=1)
    lines: list[str] = []
    other = trainer(folder, seed=9, batch=16)
    other.display = Lines(lines.append)
    other.resume()
    assert "seed was 3 when the run began and is 9 now" in lines[0]
    assert "batch was 8 when the run began and is 16 now" in lines[1]
    assert len(lines) == 2, "that there are fewer batches follows"


SETTINGS: list[tuple[dict[str, object], str]] = [
    ({"optimizer": OptimizerSpec.of("sgd", {"lr": 0.05})}, "the optimizer was sgd(lr=0.02, momentum=0.9, "),
    (
        {"schedule": ScheduleSpec.of("cosine", {})},
        "the schedule was constant(warmup=0) when the run began and is cosine(",
    ),
    ({"clip_norm": 1.0}, "the clip_norm was none when the run began and is 1.0 now"),
    ({"freeze": (FreezeRule("*.bias", 2),)}, 'the freeze was none when the run began and is "*.bias" in epoch 2 now'),
    ({"text": "loss = mae(y, t)"}, "the text of the recipe was another when the run began"),
]


@pytest.mark.parametrize(("changed", "said"), SETTINGS, ids=[next(iter(c)) for c, _ in SETTINGS])
def test_a_changed_setting_is_said(changed: dict[str, object], said: str, folder: Path) -> None:
    train(folder, epochs=1, text="loss = mse(y, t)")
    lines: list[str] = []
    other = trainer(folder, **{"text": "loss = mse(y, t)", **changed})
    other.display = Lines(lines.append)
    other.resume()
    assert len(lines) == 1 and said in lines[0]


def test_more_epochs_change_only_a_schedule_that_knows_their_number(folder: Path) -> None:
    for name, count in (("constant", 0), ("cosine", 1)):
        train(folder, epochs=1, schedule=ScheduleSpec.of(name, {}))
        lines: list[str] = []
        other = trainer(folder, epochs=3, schedule=ScheduleSpec.of(name, {}))
        other.display = Lines(lines.append)
        other.resume()
        assert len(lines) == count
    assert "the number of epochs was 1 when the run began and is 3 now" in lines[0]


def test_another_optimizer_begins_with_its_own_state(folder: Path) -> None:
    train(folder, epochs=1)
    other = trainer(folder, optimizer=OptimizerSpec.of("adam", {"lr": 0.01}))
    other.resume()
    state = other.engine.state()
    assert state["layer.weight"].any() and not state["optimizer/layer.weight/momentum"].any()


def test_a_run_that_is_complete_says_so(folder: Path) -> None:
    train(folder, epochs=2)
    lines: list[str] = []
    again = trainer(folder, epochs=2)
    again.display = Lines(lines.append)
    again.resume()
    assert again.run().epochs == 2
    assert len(lines) == 1 and "holds 2 epochs of 2: there is nothing to train; --epochs" in lines[0]


def test_the_checkpoint_of_another_network(folder: Path) -> None:
    train(folder, epochs=1)
    engine = LinearEngine()
    engine.weights = {
        "layer.weights": TensorType(DType.float32, (5,)),
        "layer.bias": TensorType(DType.float32, (2,)),
    }
    with pytest.raises(DiagnosticError) as caught:
        files.load(folder / "m.safetensors", engine.weights)
    assert len(caught.value.diagnostics) == 1
    text = str(caught.value)
    assert "belongs to another network: 2 of 2 arrays differ" in text
    assert "missing: layer.weights, float32[5]; the nearest is layer.weight, float32[5]" in text
    assert "layer.bias: expected float32[2], found float32[]" in text


def test_weights_alone_are_no_run(folder: Path) -> None:
    engine = LinearEngine()
    files.save_weights(folder / "w.safetensors", engine.state(), engine.weights)
    with pytest.raises(DiagnosticError, match="there is no run to resume"):
        files.load(folder / "w.safetensors", engine.weights)


def test_a_cut_checkpoint(folder: Path) -> None:
    train(folder, epochs=1)
    path = folder / "m.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DiagnosticError, match="cut short"):
        files.load(path, LinearEngine().weights)


def test_a_full_disk_keeps_the_previous_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(folder, epochs=1)
    before = (folder / "m.safetensors").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    longer = trainer(folder, epochs=2)
    longer.resume()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiagnosticError, match="No space left on device; the previous checkpoint is whole"):
        longer.run()
    assert (folder / "m.safetensors").read_bytes() == before
    assert sorted(f.name for f in folder.iterdir()) == ["data.npz", "m.safetensors"]


def test_a_full_disk_for_the_run_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = trainer(folder, epochs=2)
    training.folder = RunFolder.beside(training.checkpoint)
    training.folder.begin("", {})

    def full(record: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(training.folder, "epoch", full)
    with pytest.raises(DiagnosticError, match="No space left on device; there is no checkpoint yet"):
        training.run()


def test_a_full_disk_for_the_last_curve(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = trainer(folder, epochs=1)
    training.folder = RunFolder.beside(training.checkpoint)
    training.folder.begin("", {})

    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(training.folder, "draw", full)
    monkeypatch.setattr(training.folder, "epoch", lambda record: None)
    with pytest.raises(DiagnosticError, match=r"No space left on device; .*m\.safetensors holds what was saved before"):
        training.run()


def test_the_checkpoint_serves_inference(folder: Path) -> None:
    engine = LinearEngine()
    train(folder, engine)
    checkpoint = load_checkpoint(folder / "m.safetensors")
    assert list(checkpoint.entries)[:2] == list(engine.weights)
    assert all("/" in name for name in list(checkpoint.entries)[2:])


def test_the_run_folder(folder: Path) -> None:
    training = trainer(folder, epochs=3)
    run = RunFolder.beside(training.checkpoint)
    run.begin("train Linear {}", {"seed": 3})
    training.folder = run
    training.run()
    assert sorted(f.name for f in (folder / "m.run").iterdir()) == [
        "best.safetensors",
        "curve.png",
        "curve.svg",
        "evaluation.json",
        "metrics.jsonl",
        "recipe.net",
        "settings.json",
    ]
    records = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in records] == [1, 2, 3] and [r["step"] for r in records] == [7, 14, 21]
    assert {"loss", "error"} == records[0]["val"].keys() == records[0]["train"].keys()
    evaluation = json.loads((run.path / "evaluation.json").read_text())
    assert evaluation["metrics"]["error"] == records[-1]["val"]["error"]
    assert set(load_checkpoint(run.best).entries) == set(LinearEngine().weights)
