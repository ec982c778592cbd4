"""The engine's environment, made once for a test run and shared by its workers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netdsl.runtime.session import EnvironmentLack
from netdsl.training.engines.onnxruntime_training.environment import install

PATIENCE = 300.0  # seconds for another worker to make the environment


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The engine's Python. NETDSL_TEST_ENGINES names a cache to keep between runs."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    cache = Path(os.environ.get("NETDSL_TEST_ENGINES") or shared / "engines")
    patch = pytest.MonkeyPatch()
    patch.setenv("NETDSL_CACHE", str(cache))
    try:
        yield _made(cache)
    finally:
        patch.undo()


def _made(cache: Path) -> Path:
    cache.mkdir(parents=True, exist_ok=True)
    lock = cache / "lock"
    for _ in range(int(PATIENCE / 0.2)):
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
            break
        except FileExistsError:
            time.sleep(0.2)
    try:
        return install("cpu")
    except EnvironmentLack as reason:
        if "could not be installed" in str(reason) or "and none was found" in str(reason):
            pytest.skip(f"the engine onnxruntime-training cannot be made here: {reason}")
        raise
    finally:
        lock.unlink(missing_ok=True)
