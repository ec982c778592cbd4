"""The weights that a run begins with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from netdsl.diagnostics import DiagnosticError
from netdsl.ir.types import NDArrayAny
from netdsl.source import SourceFile
from netdsl.training.initial import initial_weights
from netdsl.training.job import make_job

NET = """network Teacher {
    input x: float32[N, 2]
    output y = x -> dense(3) as layer
}

network Student {
    input x: float32[N, 2]
    frozen teacher = Teacher(_)
    output known = x -> teacher
    output y = x -> dense(3) as own
}

train Student {
    loss = mse(y, known)
    optimizer = sgd(lr=0.1)
    weights = WEIGHTS
}
"""


def weights_of(setting: str, folder: Path) -> dict[str, NDArrayAny]:
    job = make_job(SourceFile(str(folder / "n.net"), NET.replace("WEIGHTS", setting)))
    return initial_weights(job.recipe, job.graph, job.folder)


@pytest.fixture
def saved(tmp_path: Path) -> dict[str, NDArrayAny]:
    arrays: dict[str, NDArrayAny] = {"layer.weight": np.full((3, 2), 7, np.float32), "layer.bias": np.ones(3, "f4")}
    np.savez(tmp_path / "own.npz", **arrays)
    np.savez(tmp_path / "full.npz", **{f"teacher.{name}": array + 1 for name, array in arrays.items()})
    return arrays


@pytest.mark.parametrize(("file", "more"), [("own.npz", 0), ("full.npz", 1)])
def test_a_part_from_its_own_file_or_by_full_names(
    file: str, more: int, saved: dict[str, NDArrayAny], tmp_path: Path
) -> None:
    drawn = weights_of("none", tmp_path)
    found = weights_of(f'[("teacher.*", "{file}")]', tmp_path)
    np.testing.assert_array_equal(found["teacher.layer.weight"], saved["layer.weight"] + more)
    np.testing.assert_array_equal(found["own.weight"], drawn["own.weight"])


def test_a_whole_file_has_everything(saved: dict[str, NDArrayAny], tmp_path: Path) -> None:
    with pytest.raises(DiagnosticError, match=r"missing: own\.weight"):
        weights_of('"full.npz"', tmp_path)


def test_a_missing_file_is_said_at_the_recipe(tmp_path: Path) -> None:
    with pytest.raises(DiagnosticError, match=r"n\.net:13:\d+: error: weights: 'lost\.npz' cannot be read"):
        weights_of('"lost.npz"', tmp_path)
