"""Runs whole processes and measures them: wall seconds and peak resident memory, the best of several runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    seconds: float
    peak_bytes: int


def once(command: Sequence[str], threads: int | None = None) -> Run:
    """One process. Raises SystemExit with its output if it fails."""
    env = dict(os.environ)
    if threads:
        env |= {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env)
    assert process.stdout
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: exit {process.returncode}\n{output.decode(errors='replace')}")
    return Run(seconds, usage.ru_maxrss * 1024)


def best(command: Sequence[str], runs: int, threads: int | None = None) -> Run:
    """The fastest of `runs` runs, after one that warms the disk's cache."""
    once(command, threads)
    return min((once(command, threads) for _ in range(runs)), key=lambda r: r.seconds)
