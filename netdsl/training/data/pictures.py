"""Pictures with labels: a folder for each class, MNIST's idx files, CIFAR's binary batches."""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from pathlib import Path
from zlib import error as ZlibError

import numpy as np
from numpy.typing import NDArray

from netdsl.diagnostics import DiagnosticError
from netdsl.ir.types import NDArrayAny
from netdsl.training.data.columns import FileColumn, PixelColumn
from netdsl.training.data.dataset import Dataset
from netdsl.training.data.faults import fault
from netdsl.training.data.wanted import Wanted, labelled, picture_form

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}

Bytes = NDArray[np.uint8]


def class_folders(path: Path) -> list[Path]:
    """The folders in a folder that hold pictures, sorted by name."""
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return [folder for folder in folders if any(f.suffix.lower() in SUFFIXES for f in folder.iterdir())]


def open_class_folders(path: Path, wanted: Wanted) -> Dataset:
    """A folder for each class. RGB (or grey for 1 channel) of 0…1, resized; the label is the class's place among the
    sorted names."""
    name = wanted.one_input("folders of pictures", path)
    classes = class_folders(path)
    files = [sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES) for folder in classes]
    labels = np.repeat(np.arange(len(classes)), [len(group) for group in files])
    form = picture_form(name, wanted.types[name], None, path)
    pictures = FileColumn([f for group in files for f in group], form)
    columns = {name: pictures, **labelled(wanted, {"label": labels}, path)}
    return Dataset(columns, str(path), class_names=[folder.name for folder in classes])


_IDX = re.compile(r"(?P<set>.*)-(?P<what>images|labels)[-.]idx\d-ubyte(\.gz)?")


def idx_files(path: Path) -> dict[str, dict[str, Path]]:
    """The idx files in a folder, or those that belong to one file, by set ("train", "t10k") and content."""
    found: dict[str, dict[str, Path]] = {}
    asked = _IDX.fullmatch(path.name)
    for file in sorted(path.parent.iterdir() if path.is_file() else path.iterdir()):
        match = _IDX.fullmatch(file.name)
        if match and (not path.is_file() or (asked and asked["set"] == match["set"])):
            found.setdefault(match["set"], {}).setdefault(match["what"], file)
    return found


def open_idx(path: Path, wanted: Wanted) -> Dataset:
    """MNIST's and Fashion-MNIST's files, `.gz` or not. Grey of 0…1, resized to the input's size."""
    sets = idx_files(path)
    files = sets[_chosen(list(sets), wanted)]
    for what in ("images", *(["labels"] if wanted.targets else [])):
        if what not in files:
            raise fault(
                "missing-data", f"there is no idx file of {what} beside {next(iter(files.values())).name}", path
            )
    pixels = _read_idx(files["images"], 3)
    labels = {"label": _read_idx(files["labels"], 1)} if wanted.targets else {}
    return _pictures(pixels[..., None], labels, path, wanted)


def _chosen(sets: list[str], wanted: Wanted) -> str:
    """The set to train on or the one to test with; the only one serves for both."""
    words = ("train",) if wanted.part == "train" else ("t10k", "test", "val")
    return next((s for s in sets if any(word in s.lower() for word in words)), sets[0])


def _read_idx(file: Path, rank: int) -> Bytes:
    """LeCun's idx format: two zero bytes, the element type (8: bytes), the rank, big-endian sizes, the elements."""
    data = _unpacked(file)
    if len(data) < 4 + 4 * rank or data[:4] != bytes((0, 0, 8, rank)):
        raise _damaged(file, f"it is no idx file of bytes with {rank} axes")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", rank, 4))
    size, expected = len(data) - 4 - 4 * rank, int(np.prod(shape))
    if size < expected:
        raise _damaged(file, f"it should hold {expected} bytes of data, found {size}")
    return np.frombuffer(data, np.uint8, expected, 4 + 4 * rank).reshape(shape)


def _unpacked(file: Path) -> bytes:
    if file.suffix != ".gz":
        return file.read_bytes()
    try:
        with gzip.open(file) as stream:
            return stream.read()
    except (EOFError, ZlibError, gzip.BadGzipFile) as reason:
        raise _damaged(file, str(reason)) from None


def _damaged(file: Path, what: str) -> DiagnosticError:
    return fault("damaged-data", f"the file cannot be read: {what}", file)


_CIFAR = re.compile(r"(data_batch_\d|test_batch|train|test)\.bin")
_PICTURE = 3 * 32 * 32


def cifar_files(path: Path) -> list[Path]:
    """The binary batches in a folder, or the one file."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    return [file for file in files if _CIFAR.fullmatch(file.name)]


def open_cifar(path: Path, wanted: Wanted) -> Dataset:
    """CIFAR-10's and CIFAR-100's binary batches. RGB of 0…1. CIFAR-100's label is the fine one, unless the target is
    named `coarse`."""
    files = cifar_files(path)
    tests = [file for file in files if file.name.startswith("test")]
    chosen = tests if wanted.part == "test" and tests else [f for f in files if f not in tests] or files
    hundred = all(file.name in ("train.bin", "test.bin") for file in chosen)
    record = _PICTURE + (2 if hundred else 1)
    batches = [_records(file, record) for file in chosen]
    data = np.concatenate(batches)
    pixels = data[:, -_PICTURE:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    labels = {"fine": data[:, 1], "coarse": data[:, 0]} if hundred else {"label": data[:, 0]}
    return _pictures(pixels, labels, path, wanted)


def _records(file: Path, record: int) -> Bytes:
    data = np.fromfile(file, np.uint8)
    if data.size % record or not data.size:
        raise _damaged(file, f"its {data.size} bytes are no whole number of records of {record}")
    return data.reshape(-1, record)


def _pictures(pixels: Bytes, labels: Mapping[str, NDArrayAny], path: Path, wanted: Wanted) -> Dataset:
    """Bytes `[n, height, width, channels]` with their labels."""
    name = wanted.one_input("pictures", path)
    native = (pixels.shape[3], pixels.shape[1], pixels.shape[2])
    form = picture_form(name, wanted.types[name], native, path)
    return Dataset({name: PixelColumn(pixels, form), **labelled(wanted, labels, path)}, str(path))
