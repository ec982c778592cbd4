"""Data of every form, and what is said of data that do not fit."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from netdsl.diagnostics import DiagnosticError
from netdsl.ir.dims import symbol
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.training.data import Dataset, Wanted, open_data, parse_columns, split
from netdsl.training.data.columns import ArrayColumn

N, H = symbol("N"), symbol("h")
F32, I64 = DType.float32, DType.int64
RNG = np.random.default_rng(1)


def wanted(x: TensorType | None = None, **changes: object) -> Wanted:
    types = {"x": x or TensorType(F32, (N, 3)), "y": TensorType(I64, (N,))}
    return Wanted(types, frozenset({"y"}), **changes)  # type: ignore[arg-type]


def everything(dataset: Dataset) -> dict[str, NDArrayAny]:
    return dataset.read(np.arange(len(dataset)))


def arrays(items: int = 10) -> dict[str, NDArrayAny]:
    return {"x": RNG.normal(size=(items, 3)).astype(np.float32), "y": np.arange(items) % 3}


def refused(path: Path, wanted: Wanted) -> str:
    with pytest.raises(DiagnosticError) as caught:
        open_data(path, wanted)
    assert len(caught.value.diagnostics) == 1
    return str(caught.value)


def npz(folder: Path, **changes: NDArrayAny) -> Path:
    np.savez(folder / "d.npz", **(arrays() | changes))
    return folder / "d.npz"


def test_npz(tmp_path: Path) -> None:
    held = arrays()
    np.savez(tmp_path / "d.npz", **held, unused=np.zeros(3))
    dataset = open_data(tmp_path / "d.npz", wanted())
    assert len(dataset) == 10
    for name, array in dataset.read(np.asarray([7, 2, 2])).items():
        np.testing.assert_array_equal(array, held[name][[7, 2, 2]])


def test_folder_of_npy_stays_on_the_disk(tmp_path: Path) -> None:
    held = arrays()
    for name, array in held.items():
        np.save(tmp_path / f"{name}.npy", array)
    dataset = open_data(tmp_path, wanted())
    column = dataset.columns["x"]
    assert isinstance(column, ArrayColumn) and isinstance(column.array, np.memmap)
    order = np.asarray([9, 0, 4, 4, 1])
    np.testing.assert_array_equal(dataset.read(order)["x"], held["x"][order])


@pytest.mark.parametrize(
    "found, dtype",
    [
        (np.arange(12).reshape(4, 3), F32),
        (np.arange(12, dtype=">i4").reshape(4, 3), F32),
        (np.arange(12, dtype=np.uint8).reshape(4, 3), DType.float16),
        (np.arange(12.0).reshape(4, 3), F32),
        (np.arange(12, dtype=np.int64).reshape(4, 3), DType.int8),
        (np.arange(12).reshape(4, 3) % 2, DType.bool),
        (np.arange(12).reshape(4, 3) % 2 == 1, F32),
        (np.arange(12).reshape(4, 3), DType.bfloat16),
    ],
    ids=str,
)
def test_types_convert_where_nothing_is_lost(tmp_path: Path, found: NDArrayAny, dtype: DType) -> None:
    np.savez(tmp_path / "d.npz", x=found, y=np.zeros(4, np.int32))
    read = everything(open_data(tmp_path / "d.npz", wanted(TensorType(dtype, (N, 3)))))
    assert read["x"].dtype == dtype.numpy and read["y"].dtype == np.int64
    np.testing.assert_array_equal(read["x"].astype(np.float64), found.astype(np.float64))


def test_symbols_are_the_same_in_all_arrays(tmp_path: Path) -> None:
    types = {"x": TensorType(F32, (N, 8 * H)), "z": TensorType(F32, (N, H))}
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 24)), z=np.zeros((2, 3)))
    assert len(open_data(tmp_path / "d.npz", Wanted(types))) == 2
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 24)), z=np.zeros((2, 4)))
    assert "axis 1 should be h (h = 3), not 4" in refused(tmp_path / "d.npz", Wanted(types))


def nan_at(row: int) -> NDArrayAny:
    x = np.zeros((10, 3), np.float32)
    x[row, 1] = np.nan
    return x


@pytest.mark.parametrize(
    "changes, expected",
    [
        (
            {"x": np.zeros((10, 4))},
            ["'x' has the wrong shape", "float32[N, 3]", "float64[10, 4]", "axis 1 should be 3"],
        ),
        ({"x": np.zeros((10, 3, 1))}, ["'x' has the wrong rank", "array.reshape(-1, 3)"]),
        ({"x": np.zeros((9, 3))}, ["different numbers of items", "'x' 9, 'y' 10"]),
        ({"x": np.zeros((0, 3)), "y": np.zeros(0, int)}, ["empty"]),
        ({"x": nan_at(6)}, ["'x' holds NaN", "[6, 1]"]),
        ({"x": np.full((10, 3), np.inf)}, ["'x' holds infinity", "[0, 0]"]),
        ({"x": np.full((10, 3), 2**24 + 1)}, ["16777217", "does not fit into float32"]),
        ({"x": np.full((10, 3), 1e39)}, ["does not fit into float32"]),
        ({"x": np.full((10, 3), "a")}, ["wrong type"]),
        ({"y": np.arange(10.0)}, ["'y' has the wrong type", "int64[N]", "array.astype(numpy.int64)"]),
        ({"y": np.full(10, 2**64 - 1, np.uint64)}, ["does not fit into int64"]),
        ({"y": np.asarray([object()] * 10)}, ["never unpickled"]),
        ({"y": np.asarray([0, 1, 2, 3, 1, 1, 1, 1, 1, 1])}, ["ids from 0 to 2, found 3 at index [3]", "0 to 3"]),
        ({"y": np.asarray([1, 2, 3, 3, 1, 1, 1, 1, 1, 1])}, ["classes count from 0"]),
        ({"y": np.asarray([0, -1, 2, 0, 1, 1, 1, 1, 1, 1])}, ["found -1 at index [1]"]),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, changes: dict[str, NDArrayAny], expected: list[str]) -> None:
    text = refused(npz(tmp_path, **changes), wanted(classes={"y": 3}))
    assert all(part in text for part in expected), text


def test_an_ignored_label_may_lie_outside(tmp_path: Path) -> None:
    path = npz(tmp_path, y=np.asarray([0, 1, 2, -100, 1, 1, 1, 1, 1, 1]))
    assert len(open_data(path, wanted(classes={"y": 3}, ignore={"y": -100}))) == 10


def test_a_missing_array_names_the_nearest(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 3)), labels=np.zeros(2, int))
    types = {"x": TensorType(F32, (N, 3)), "label": TensorType(I64, (N,))}
    text = refused(tmp_path / "d.npz", Wanted(types, frozenset({"label"})))
    assert "no array for the target 'label'" in text and "did you mean 'labels'?" in text


def test_channels_last_are_recognised(tmp_path: Path) -> None:
    path = npz(tmp_path, x=np.zeros((10, 8, 8, 3)))
    assert "transpose(0, 3, 1, 2)" in refused(path, wanted(TensorType(F32, (N, 3, 8, 8))))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04nonsense", b"\x80\x04pickle"])
def test_a_damaged_npz(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "d.npz").write_bytes(content)
    said = refused(tmp_path / "d.npz", wanted())
    assert "no .npz archive" in said and "pickle" not in said, "nobody is asked to unpickle anything"


def test_unknown_forms(tmp_path: Path) -> None:
    (tmp_path / "d.pkl").write_bytes(b"x")
    assert ".pkl is no form of data" in refused(tmp_path / "d.pkl", wanted())
    assert "nothing that is known as data" in refused(tmp_path, wanted())
    (tmp_path / "empty").mkdir()
    assert "the folder is empty" in refused(tmp_path / "empty", wanted())
    with pytest.raises(OSError):
        open_data(tmp_path / "absent.npz", wanted())


def pictures(folder: Path) -> None:
    for number, name in enumerate(["cat", "dog"]):
        (folder / name).mkdir()
        for item in range(2):
            pixels = np.full((6, 8, 3), 40 * number + item, np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{item}.png")


def test_folders_of_pictures(tmp_path: Path) -> None:
    pictures(tmp_path)
    dataset = open_data(tmp_path, wanted(TensorType(F32, (N, 3, 4, 5))))
    assert dataset.class_names == ("cat", "dog")
    read = everything(dataset)
    assert read["x"].shape == (4, 3, 4, 5) and read["x"].dtype == np.float32
    np.testing.assert_array_equal(read["y"], [0, 0, 1, 1])
    np.testing.assert_allclose(read["x"][:, 0, 0, 0] * 255, [0, 1, 40, 41], atol=1e-4)


def test_pictures_in_grey_and_bytes(tmp_path: Path) -> None:
    pictures(tmp_path)
    read = everything(open_data(tmp_path, wanted(TensorType(DType.uint8, (N, 1, 6, 8)))))
    np.testing.assert_array_equal(read["x"][:, 0, 0, 0], [0, 1, 40, 41])
    assert "--set" in refused(tmp_path, wanted(TensorType(F32, (N, 3, 8 * H, 8))))
    assert "1 or 3 channels" in refused(tmp_path, wanted(TensorType(F32, (N, 4, 6, 8))))
    assert "ids from 0 to 0" in refused(tmp_path, wanted(TensorType(F32, (N, 3, 6, 8)), classes={"y": 1}))


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "dog" / "1.png").write_bytes(b"no picture")
    with pytest.raises(DiagnosticError, match=r"1\.png: .*cannot be read"):
        everything(open_data(tmp_path, wanted(TensorType(F32, (N, 3, 6, 8)))))


def idx(array: NDArrayAny) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + np.asarray(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files(tmp_path: Path, packed: bool) -> None:
    def write(name: str, array: NDArrayAny) -> None:
        data = idx(array)
        (tmp_path / (name + ".gz" * packed)).write_bytes(gzip.compress(data) if packed else data)

    for part, items in (("train", 6), ("t10k", 4)):
        write(f"{part}-images-idx3-ubyte", RNG.integers(0, 256, (items, 28, 28)))
        write(f"{part}-labels-idx1-ubyte", np.arange(items))
    type = TensorType(F32, (N, 1, 28, 28))
    assert len(open_data(tmp_path, wanted(type, classes={"y": 10}))) == 6
    assert len(open_data(tmp_path, wanted(type, part="test"))) == 4
    single = open_data(tmp_path / ("t10k-images-idx3-ubyte" + ".gz" * packed), wanted(type))
    assert len(single) == 4 and float(everything(single)["x"].max()) <= 1  # type: ignore[arg-type]
    assert everything(open_data(tmp_path, wanted(TensorType(F32, (N, 784)))))["x"].shape == (6, 784)
    assert everything(open_data(tmp_path, wanted(TensorType(F32, (N, 28, 28)))))["x"].shape == (6, 28, 28)
    assert everything(open_data(tmp_path, wanted(TensorType(F32, (N, 1, 32, 32)))))["x"].shape == (6, 1, 32, 32)
    assert everything(open_data(tmp_path, wanted(TensorType(F32, (N, 3, 28, 28)))))["x"].shape == (6, 3, 28, 28)


def test_idx_cut_short(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((3, 28, 28)))[:-5])
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(3)))
    assert "should hold 2352 bytes" in refused(tmp_path, wanted(TensorType(F32, (N, 1, 28, 28))))
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    assert "no idx file of labels" in refused(tmp_path, wanted(TensorType(F32, (N, 1, 28, 28))))


def test_cifar(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (4, 3072)).astype(np.uint8)
    labels = np.arange(4, dtype=np.uint8)[:, None]
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name in ("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"):
        (folder / name).write_bytes(np.hstack([labels, pixels]).tobytes())
    type = TensorType(F32, (N, 3, 32, 32))
    read = everything(open_data(tmp_path, wanted(type)))
    np.testing.assert_array_equal(read["y"], [0, 1, 2, 3] * 2)
    np.testing.assert_allclose(read["x"][:4].reshape(4, -1), pixels / 255, atol=1e-6)
    assert len(open_data(folder, wanted(type, part="test"))) == 4
    (folder / "test_batch.bin").write_bytes(b"123")
    assert "no whole number of records" in refused(folder / "test_batch.bin", wanted(type))


def test_cifar_100_has_fine_labels(tmp_path: Path) -> None:
    record = np.hstack([np.full((2, 1), 7), np.full((2, 1), 88), np.zeros((2, 3072))]).astype(np.uint8)
    (tmp_path / "train.bin").write_bytes(record.tobytes())
    read = everything(open_data(tmp_path, wanted(TensorType(F32, (N, 3, 32, 32)))))
    np.testing.assert_array_equal(read["y"], [88, 88])


TABLE = "a,b,c,y\n1,2,3,0\n4,5.5,6,1\n"


def table(folder: Path, text: str) -> Path:
    (folder / "t.csv").write_text(text, encoding="utf-8")
    return folder / "t.csv"


@pytest.mark.parametrize("columns", [[], ["x=a:c"], ["x=a,b:c", "y=y"], ["y=y", "x=a,b,c"]])
def test_csv(tmp_path: Path, columns: list[str]) -> None:
    read = everything(open_data(table(tmp_path, TABLE), wanted(columns=parse_columns(columns))))
    np.testing.assert_array_equal(read["x"], np.float32([[1, 2, 3], [4, 5.5, 6]]))
    np.testing.assert_array_equal(read["y"], [0, 1])


@pytest.mark.parametrize(
    "text, columns, expected",
    [
        ("a,b,c,y\n1,2,3,0\n4,,6,1\n", [], "row 3, column 'b' holds nothing"),
        ("a,b,c,y\n1,2,red,0\n", [], "row 2, column 'c' holds 'red', which is no number"),
        ("a,b,c,y\n1,2,3\n", [], "row 2 has 3 cells; the header has 4"),
        ("a,b,c,y\n", [], "the data set is empty"),
        ("", [], "no header row"),
        (TABLE, ["x=a:d"], "no column 'd'"),
        (TABLE, ["z=a"], "'z', which is no input or target"),
        (TABLE, ["x=a:b"], "'x' has the wrong shape"),
        ("a,b,c,label\n1,2,3,0\n", ["x=a:c"], "no array for the target 'y'"),
        ("a,b,c,label\n1,2,3,0\n", ["x=a:c"], "say which columns: --columns y=FIRST:LAST"),
        ("a,b,c,y\n1,2,3,cat\n1,2,4,cat\n", [], "number its classes 0, 1, …"),
        ("a,b,c,y\n1,2,nan,0\n", [], "'x' holds NaN"),
    ],
)
def test_csv_that_does_not_fit(tmp_path: Path, text: str, columns: list[str], expected: str) -> None:
    assert expected in refused(table(tmp_path, text), wanted(columns=parse_columns(columns)))


def test_columns_need_a_name() -> None:
    with pytest.raises(ValueError, match="expected NAME=COLUMN"):
        parse_columns(["a:b"])


def text_wanted(y: TensorType, x: TensorType | None = None, **changes: object) -> Wanted:
    types = {"x": x or TensorType(I64, (N, 4)), "y": y}
    return Wanted(types, frozenset({"y"}), **changes)  # type: ignore[arg-type]


def test_text(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("bad cäb\n😀bad", encoding="utf-8")
    dataset = open_data(path, text_wanted(TensorType(I64, (N, 4))))
    letters = np.asarray(dataset.vocabulary)
    assert dataset.vocabulary == ("\n", " ", "a", "b", "c", "d", "ä", "😀")
    read = everything(dataset)
    assert ["".join(row) for row in letters[read["x"]]] == ["bad ", "cäb\n"]  # type: ignore[index]
    assert ["".join(row) for row in letters[read["y"]]] == ["ad c", "äb\n😀"]  # type: ignore[index]
    last = everything(open_data(path, text_wanted(TensorType(I64, (N,)))))
    assert list(letters[last["y"]]) == ["c", "😀"]  # type: ignore[index]
    hot = everything(open_data(path, text_wanted(TensorType(I64, (N,)), TensorType(F32, (N, 4, 8)))))
    np.testing.assert_array_equal(hot["x"].argmax(-1), read["x"])


def test_text_with_the_trained_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("abcab", encoding="utf-8")
    read = everything(open_data(path, text_wanted(TensorType(I64, (N, 4)), vocabulary="xcba")))
    np.testing.assert_array_equal(read["x"], [[3, 2, 1, 3]])
    assert "character 1 is 'b'" in refused(path, text_wanted(TensorType(I64, (N, 4)), vocabulary="ac"))
    assert "too few" in refused(path, text_wanted(TensorType(I64, (N, H)), TensorType(I64, (N, H)), window=5))
    assert "one of 2 classes" in refused(path, text_wanted(TensorType(I64, (N, 4)), classes={"y": 2}))
    assert "do not fit 'y'" in refused(path, text_wanted(TensorType(F32, (N, 4, 7))))


@pytest.fixture
def dataset(tmp_path: Path) -> Callable[[], Dataset]:
    path = npz(tmp_path)
    return lambda: open_data(path, wanted())


def test_split_is_by_seed_and_whole(dataset: Callable[[], Dataset]) -> None:
    train, held = split(dataset(), 0.3, 5)
    assert (len(train), len(held)) == (7, 3)
    rows = np.concatenate([everything(train)["x"], everything(held)["x"]])
    np.testing.assert_array_equal(np.sort(rows, 0), np.sort(everything(dataset())["x"], 0))
    again, other = split(dataset(), 0.3, 5)[1], split(dataset(), 0.3, 6)[1]
    np.testing.assert_array_equal(everything(held)["x"], everything(again)["x"])
    assert not np.array_equal(everything(held)["x"], everything(other)["x"])


@pytest.mark.parametrize("share", [0.0, 0.01, 0.99, 1.0])
def test_no_part_of_a_split_is_empty(dataset: Callable[[], Dataset], share: float) -> None:
    with pytest.raises(DiagnosticError, match="leaves one part empty"):
        split(dataset(), share, 0)
