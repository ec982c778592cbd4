"""Step times of the two training engines, and of onnxruntime-training's own loop, in one run.

    netdsl engine install onnxruntime-training
    python benchmarks/training_engines.py [--runs 3] [--threads 1] [--networks NAME …]

The optimizer is SGD without momentum, the one that all three have. The bare loop is the package's Module and Optimizer
over the artefacts that `netdsl compile --training` writes, in a process without netdsl. A step is timed from the result
of the one before to its own, as a trainer gets them; each time is the median of a run's steps, the least of the runs.
The three take turns.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from training_cases import NETWORKS, Network

from netdsl.ir.dims import evaluate
from netdsl.ir.recipe import OptimizerSpec
from netdsl.source import SourceFile
from netdsl.training.engines.base import Engine, Step
from netdsl.training.engines.onnxruntime_training.artefacts import write_artefacts
from netdsl.training.engines.onnxruntime_training.engine import OrtTrainingEngine
from netdsl.training.engines.onnxruntime_training.environment import find_python
from netdsl.training.engines.standard import StandardEngine
from netdsl.training.initial import initial_weights
from netdsl.training.job import make_job

BARE = Path(__file__).parents[1] / "tests" / "training" / "engine_ort" / "bare_loop.py"
RATE = 1e-4
WARM_UP = 2  # steps


class Case:
    """A network with its batch and artefacts."""

    def __init__(self, name: str, network: Network, threads: int, folder: Path) -> None:
        source = SourceFile(f"{name}.net", network.source())
        job = make_job(source, settings=dict(network.settings), batch=network.batch)
        self.recipe = replace(job.recipe, optimizer=OptimizerSpec.of("sgd", {}), clip_norm=None)
        self.graph, self.steps, self.threads = job.graph, network.timed, threads
        self.weights = initial_weights(self.recipe, job.graph, Path())
        rng = np.random.default_rng(0)
        self.batch: dict[str, Any] = {}
        for value in job.graph.inputs:
            shape = [evaluate(d, {"N": network.batch}) for d in value.shape]
            numbers = rng.normal(size=shape).astype(np.float32)
            self.batch[value.name] = numbers if value.dtype.is_float else rng.integers(0, 2, shape)
        self.folder = folder / name.replace(" ", "_")
        write_artefacts(self.recipe, self.graph, self.weights, self.folder)
        np.savez(self.folder / "batch.npz", **self.batch)

    def engine(self, kind: type[StandardEngine]) -> float:
        """Milliseconds of a step."""
        made: Engine = kind(self.recipe, self.graph, self.weights, device="cpu", threads=self.threads)
        steps = (Step(self.batch, RATE, number) for number in range(WARM_UP + self.steps))
        times = [time.perf_counter() for _ in made.steps(steps)]
        made.close()
        return float(np.median(np.diff(times)[WARM_UP - 1 :])) * 1e3

    def bare(self) -> float:
        command = [
            find_python("cpu"),
            BARE,
            self.folder,
            self.folder / "batch.npz",
            RATE,
            WARM_UP + self.steps,
            self.threads,
        ]
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        return float(np.median(json.loads(done.stdout)["times"][WARM_UP:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    options = parser.parse_args()
    print("| network | standard ms | onnxruntime-training ms | ratio | its bare loop ms | netdsl ÷ bare | goal |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks:
            case = Case(name, NETWORKS[name], options.threads, Path(folder))
            runs = [
                (case.engine(StandardEngine), case.engine(OrtTrainingEngine), case.bare()) for _ in range(options.runs)
            ]
            standard, other, bare = (min(times) for times in zip(*runs, strict=True))
            ratios = f"{other / standard:.2f}", f"{other / bare:.2f}"
            print(
                f"| {name} | {standard:.2f} | {other:.2f} | {ratios[0]} | {bare:.2f} | {ratios[1]} | ≤ 1.05 |",
                flush=True,
            )


if __name__ == "__main__":
    main()
