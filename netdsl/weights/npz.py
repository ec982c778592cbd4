"""NumPy's `.npz`: a zip archive of `.npy` files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO
from zipfile import BadZipFile, ZipFile
from zlib import error as ZlibError

import numpy as np

from netdsl.ir.types import NDArrayAny, dtype_of
from netdsl.weights.checkpoint import Checkpoint, Entry, damaged

SUFFIX = ".npy"
BROKEN = (BadZipFile, ZlibError, ValueError, EOFError, KeyError, NotImplementedError)


class NpzCheckpoint(Checkpoint):
    """An `.npz` file. Raises DiagnosticError for one that is damaged, or that holds pickled objects where asked for
    them."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._entries: dict[str, Entry] = {}
        try:
            with ZipFile(path) as archive:
                for member in archive.namelist():
                    if member.endswith(SUFFIX):
                        with archive.open(member) as stream:
                            self._entries[member.removesuffix(SUFFIX)] = _entry(stream)
        except BROKEN as error:
            damaged(path, f"it is no .npz archive, or it is cut short ({error})")

    @property
    def entries(self) -> Mapping[str, Entry]:
        return MappingProxyType(self._entries)

    def read(self, name: str) -> NDArrayAny:
        try:
            with ZipFile(self.path) as archive, archive.open(name + SUFFIX) as stream:
                array: NDArrayAny = np.lib.format.read_array(stream, allow_pickle=False)
        except BROKEN as error:
            damaged(self.path, f"{name} is damaged ({error})")
        return np.asarray(array, array.dtype.newbyteorder("=")) if array.dtype.kind != "V" else array


def _entry(stream: IO[bytes]) -> Entry:
    """Type and shape, from the header alone."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    try:
        return Entry(dtype_of(np.empty(0, dtype.newbyteorder("="))), shape)
    except KeyError:
        return Entry(None, shape, "object (pickled)" if dtype.hasobject else str(dtype))
