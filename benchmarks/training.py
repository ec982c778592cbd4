"""Training against PyTorch eager, in one run: step time, memory, losses, gradients.

    python benchmarks/training.py [--torch PYTHON] [--runs 3] [--threads 1 2] [--networks NAME …]
                                  [--only speed|parity|build] [--profile]

`--torch` names a Python that has torch and numpy (default: this one). Each measurement is a process of its own, one at
a time: two thread pools in turn would slow each other down. Times are the least of all steps of all runs, memory what
training adds to the process after its imports. "exported": the step in standard operators alone, as `netdsl compile
--training` writes it; `netdsl train` also uses ONNX Runtime's own layout of convolutions. `--profile` prints where each
step's time goes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training_cases import LOSSES, NETWORKS, OPTIMIZERS

HERE = Path(__file__).parent
PROGRAM = HERE.parent / "examples" / "resnet50.net"
BATCHES = 3  # for gradients, of which the worst counts


@dataclass(frozen=True)
class Bench:
    torch: str
    runs: int
    folder: Path

    def ours(self, *arguments: object) -> dict[str, Any]:
        return self._run(sys.executable, "training_ours.py", arguments)

    def theirs(self, *arguments: object) -> dict[str, Any]:
        return self._run(self.torch, "torch_training.py", arguments)

    def _run(self, python: str, script: str, arguments: tuple[object, ...]) -> dict[str, Any]:
        threads = str(arguments[3]) if arguments[0] in ("timed", "exported", "profile") else "1"
        env = {**os.environ, "OMP_NUM_THREADS": threads, "PYTHONPATH": str(HERE.parent)}
        command = [python, str(HERE / script), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}")
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result

    def data(self, name: str, seed: int = 0) -> Path:
        """The weights and a batch of a case."""
        path = self.folder / f"{name.replace(' ', '_').replace(':', '_')}_{seed}.npz"
        if not path.exists():
            self.ours("init", name, path, seed)
        return path

    def best(self, side: Any, name: str, threads: int, command: str = "timed") -> tuple[float, float]:
        found = [side(command, name, self.data(name), threads) for _ in range(self.runs)]
        return min(f["ms"] for f in found), min(f["peak"] for f in found) / 1e6


def row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def table(*titles: str) -> None:
    print()
    row(*titles)
    row(*["---"] * len(titles))


def speed(bench: Bench, networks: list[str], threads: list[int]) -> None:
    memory = "netdsl MB", "PyTorch MB", "ratio"
    table("network", "threads", "netdsl ms", "PyTorch ms", "ratio", "goal", "exported ms", "ratio", *memory)
    for name in networks:
        for number in threads:
            ours, our_peak = bench.best(bench.ours, name, number)
            theirs, their_peak = bench.best(bench.theirs, name, number)
            exported, _ = bench.best(bench.ours, name, number, "exported")
            goal = "≤ 1.0" if number == 1 else "≤ 1.1"
            times = (
                f"{ours:.2f}",
                f"{theirs:.2f}",
                f"{ours / theirs:.2f}",
                goal,
                f"{exported:.2f}",
                f"{exported / theirs:.2f}",
            )
            row(name, number, *times, f"{our_peak:.0f}", f"{their_peak:.0f}", f"{our_peak / their_peak:.2f}")


def parity(bench: Bench, networks: list[str]) -> None:
    table("20 losses of", "largest difference", "PyTorch from float64", "goal")
    cases = [(name, "sgd momentum") for name in networks]
    cases += [("LeNet-5", name) for name in OPTIMIZERS] + [(f"loss:{name}", "sgd momentum") for name in LOSSES]
    for name, optimizer in cases:
        data = bench.data(name)
        ours = bench.ours("losses", name, data, optimizer)["losses"]
        theirs, exact = (bench.theirs("losses", name, data, optimizer, bits)["losses"] for bits in (32, 64))
        row(f"{name}, {optimizer}", f"{largest(ours, theirs):.1e}", f"{largest(theirs, exact):.1e}", "≤ 1e-4")
    table("gradients of", "netdsl's error", "PyTorch's error", "ratio", "goal")
    for name in [*networks, *(f"loss:{loss}" for loss in LOSSES)]:
        errors = [gradient_errors(bench, name, seed) for seed in range(BATCHES)]
        ours, theirs = (max(e[side] for e in errors) for side in ("ours", "torch"))
        row(name, f"{ours:.1e}", f"{theirs:.1e}", f"{ours / theirs:.2f}", "≤ 2")


def gradient_errors(bench: Bench, name: str, seed: int) -> dict[str, float]:
    out = bench.folder / "gradients.npz"
    bench.ours("gradients", name, bench.data(name, seed), out)
    return bench.theirs("gradients", name, bench.data(name, seed), out)


def largest(a: list[float], b: list[float]) -> float:
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def build(bench: Bench) -> None:
    table("ResNet-50's step", "seconds", "goal")
    found = [bench.ours("build", PROGRAM) for _ in range(bench.runs)]
    row("from text to step graph", f"{min(f['graph'] for f in found):.2f}", "≤ 3")
    row(f"to the ONNX model of {found[0]['nodes']} nodes", f"{min(f['model'] for f in found):.2f}", "")


def profile(bench: Bench, networks: list[str], threads: list[int]) -> None:
    for name in networks:
        for number in threads:
            found = bench.ours("profile", name, bench.data(name), number)
            print(f"\n{name}, {number} threads: {found['total']:.1f} ms in operators, by part {found['parts']}")
            for kind in ("operators", "nodes"):
                print("  " + "; ".join(f"{what} {ms}" for what, ms in found[kind].items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", default=sys.executable)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--only", choices=["speed", "parity", "build"])
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options.torch, options.runs, Path(folder))
        if options.profile:
            profile(bench, options.networks, options.threads)
            return
        if options.only in (None, "build"):
            build(bench)
        if options.only in (None, "speed"):
            speed(bench, options.networks, options.threads)
        if options.only in (None, "parity"):
            parity(bench, options.networks)


if __name__ == "__main__":
    main()
