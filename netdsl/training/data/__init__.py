"""Data of every form for training and evaluation. Nothing is ever unpickled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from netdsl.training.data.arrays import open_npy_folder, open_npz
from netdsl.training.data.check import check_dataset
from netdsl.training.data.dataset import Dataset, Subset, shuffled, split
from netdsl.training.data.faults import fault
from netdsl.training.data.pictures import (
    cifar_files,
    class_folders,
    idx_files,
    open_cifar,
    open_class_folders,
    open_idx,
)
from netdsl.training.data.table import open_csv, parse_columns
from netdsl.training.data.text import open_text
from netdsl.training.data.wanted import Wanted

__all__ = ["Dataset", "Subset", "Wanted", "open_data", "parse_columns", "shuffled", "split"]

_FORMS = (
    "data are an .npz, a folder of .npy files, a folder with a folder of pictures for each class, MNIST's idx files, "
    "CIFAR's binary batches, a .csv or a .txt"
)
_NESTED = ("MNIST/raw", "FashionMNIST/raw", "cifar-10-batches-bin", "cifar-100-binary", "raw")

Opener = Callable[[Path, Wanted], Dataset]
_BY_SUFFIX: dict[str, Opener] = {".npz": open_npz, ".csv": open_csv, ".txt": open_text}


def open_data(where: str | Path, wanted: Wanted) -> Dataset:
    """The data at a path, checked against what the recipe wants.

    Raises DiagnosticError, one clear sentence, for whatever does not fit, and OSError for what cannot be opened.
    """
    path = Path(where)
    dataset = _opener(path)(path, wanted) if path.is_file() else _open_folder(path, wanted)
    check_dataset(dataset, wanted.classes, wanted.ignore)
    return dataset


def _opener(path: Path) -> Opener:
    if path.suffix.lower() in _BY_SUFFIX:
        return _BY_SUFFIX[path.suffix.lower()]
    if idx_files(path):
        return open_idx
    if cifar_files(path):
        return open_cifar
    raise fault("unknown-data", f"{path.suffix or 'a file without an ending'} is no form of data", path, help=_FORMS)


def _open_folder(path: Path, wanted: Wanted) -> Dataset:
    for folder in (path, *(path / nested for nested in _NESTED)):
        opener = _folder_opener(folder) if folder == path or folder.is_dir() else None
        if opener:
            return opener(folder, wanted)
    empty = not any(path.iterdir())
    message = "the folder is empty" if empty else "the folder holds nothing that is known as data"
    raise fault("empty-data" if empty else "unknown-data", message, path, help=_FORMS)


def _folder_opener(path: Path) -> Opener | None:
    if any(path.glob("*.npy")):
        return open_npy_folder
    if idx_files(path):
        return open_idx
    if cifar_files(path):
        return open_cifar
    return open_class_folders if class_folders(path) else None
