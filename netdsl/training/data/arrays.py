"""Arrays that are named like the recipe's inputs and targets: an `.npz`, or a folder of `.npy` files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np

from netdsl.ir.types import NDArrayAny
from netdsl.training.data.check import fitted
from netdsl.training.data.columns import Column
from netdsl.training.data.dataset import Dataset
from netdsl.training.data.faults import fault, missing
from netdsl.training.data.wanted import Wanted

_BROKEN = (ValueError, EOFError, BadZipFile, ZlibError, KeyError, NotImplementedError)


def open_npz(path: Path, wanted: Wanted) -> Dataset:
    """An `.npz`; its arrays are read into memory."""
    try:
        archive = np.load(path, allow_pickle=False)
    except _BROKEN:
        raise fault("damaged-data", "this is no .npz archive, or it is cut short", path) from None
    with archive:
        held = list(getattr(archive, "files", ()))
        return _dataset({n: _member(archive, n, path) for n in wanted.types if n in held}, held, path, wanted)


def _member(archive: Mapping[str, NDArrayAny], name: str, path: Path) -> NDArrayAny:
    try:
        return archive[name]
    except _BROKEN as reason:
        raise fault(*_unreadable(name, reason), path) from None


def _unreadable(name: str, reason: Exception) -> tuple[str, str]:
    if "allow_pickle" in str(reason):
        return "object-array", f"'{name}' is an array of Python objects, which are never unpickled"
    return "damaged-data", f"'{name}' cannot be read ({reason})"


def open_npy_folder(path: Path, wanted: Wanted) -> Dataset:
    """A folder of `.npy` files, which stay on the disk: only what a batch needs is read."""
    held = [file.stem for file in path.glob("*.npy")]
    return _dataset({n: _mapped(path / f"{n}.npy", n) for n in wanted.types if n in held}, held, path, wanted)


def _mapped(file: Path, name: str) -> NDArrayAny:
    try:
        array: NDArrayAny = np.load(file, mmap_mode="r", allow_pickle=False)
    except _BROKEN as reason:
        try:
            array = np.load(file, allow_pickle=False)  # an empty array cannot be mapped
        except _BROKEN:
            raise fault(*_unreadable(name, reason), file) from None
    return array


def _dataset(arrays: Mapping[str, NDArrayAny], held: list[str], path: Path, wanted: Wanted) -> Dataset:
    env: dict[str, int] = {}
    columns: dict[str, Column] = {}
    for name, type in wanted.types.items():
        if name not in arrays:
            raise missing(wanted.kind(name), name, held, path)
        array = arrays[name]
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        columns[name] = fitted(name, array, type, env, path)
    return Dataset(columns, str(path))
