"""What `netdsl run` reads: arrays and pictures, and what it says about those that do not fit."""

import io
import pickle

import click
import ml_dtypes
import numpy as np
import pytest
from PIL import Image

from netdsl.cli.arrays import load_input, write_npz
from netdsl.ir.dims import symbol
from netdsl.ir.types import DType, TensorType

N, h, w = symbol("N"), symbol("h"), symbol("w")


def picture_type(*shape, dtype=DType.float32):
    return TensorType(dtype, shape)


@pytest.fixture
def photo(tmp_path):
    """4 wide, 2 high: red in the left half, blue in the right."""
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[:, :2, 0] = 255
    pixels[:, 2:, 2] = 255
    file = tmp_path / "photo.png"
    Image.fromarray(pixels).save(file)
    return str(file)


def test_picture_is_rgb_scaled_and_channels_first(photo):
    array = load_input(photo, "image", picture_type(N, 3, 2, 4))
    assert array.shape == (1, 3, 2, 4)
    assert array.dtype == np.float32
    assert array[0, 0].tolist() == [[1, 1, 0, 0]] * 2
    assert array[0, 1].max() == 0
    assert array[0, 2].tolist() == [[0, 0, 1, 1]] * 2


def test_picture_is_resized_height_before_width(photo):
    assert load_input(photo, "image", picture_type(N, 3, 6, 8)).shape == (1, 3, 6, 8)


def test_grey_where_the_input_has_one_channel(photo):
    array = load_input(photo, "image", picture_type(N, 1, 2, 4))
    assert array.shape == (1, 1, 2, 4)
    assert array[0, 0, 0] == pytest.approx(np.array([76, 76, 29, 29]) / 255)  # ITU-R 601 luma


def test_rank_3_has_no_batch_and_uint8_keeps_0_to_255(photo):
    array = load_input(photo, "image", picture_type(3, 2, 4, dtype=DType.uint8))
    assert array.shape == (3, 2, 4)
    assert array.max() == 255


def test_half_precision(photo):
    assert load_input(photo, "image", picture_type(N, 3, 2, 4, dtype=DType.bfloat16)).dtype == ml_dtypes.bfloat16


def test_symbolic_size_takes_the_largest_that_fits(tmp_path):
    file = tmp_path / "photo.jpg"
    Image.new("RGB", (70, 100)).save(file)
    assert load_input(str(file), "image", picture_type(N, 3, 32 * h, 32 * w)).shape == (1, 3, 96, 64)
    assert load_input(str(file), "image", picture_type(N, 3, 32 * h, 32 * h)).shape == (1, 3, 96, 96)


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((N, 4, 8, 8), "1 or 3 channels"),
        ((8, 3, 8, 8), "batch of 1"),
        ((N, 10), "does not fit"),
        ((N, 3, 32 * h, 8), "no size of 32*h"),
    ],
)
def test_pictures_that_do_not_fit(photo, shape, says):
    with pytest.raises(click.ClickException, match="image") as caught:
        load_input(photo, "image", picture_type(*shape))
    assert says in caught.value.message


def test_not_a_picture(tmp_path):
    file = tmp_path / "photo.png"
    file.write_text("hello")
    with pytest.raises(click.ClickException, match="not a picture"):
        load_input(str(file), "image", picture_type(N, 3, 2, 4))


def test_npy_takes_the_inputs_float_type(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((2, 3)))
    array = load_input(str(tmp_path / "x.npy"), "x", TensorType(DType.float32, (N, 3)))
    assert array.dtype == np.float32


def test_integers_that_do_not_fit_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.array([300]))
    with pytest.raises(click.ClickException, match="do not fit into uint8"):
        load_input(str(tmp_path / "x.npy"), "x", TensorType(DType.uint8, (1,)))


def test_integers_are_no_floats(tmp_path):
    np.save(tmp_path / "x.npy", np.array([3]))
    with pytest.raises(click.ClickException, match="the file holds int64"):
        load_input(str(tmp_path / "x.npy"), "x", TensorType(DType.float32, (1,)))


def test_npz_by_name_or_the_only_one(tmp_path):
    kind = TensorType(DType.float32, (1,))
    np.savez(tmp_path / "one.npz", anything=np.float32([7]))
    assert load_input(str(tmp_path / "one.npz"), "x", kind) == [7]
    np.savez(tmp_path / "two.npz", x=np.float32([1]), y=np.float32([2]))
    assert load_input(str(tmp_path / "two.npz"), "y", kind) == [2]
    with pytest.raises(click.ClickException, match="no array named 'z'"):
        load_input(str(tmp_path / "two.npz"), "z", kind)


def test_nothing_is_unpickled(tmp_path):
    kind = TensorType(DType.float32, (1,))
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object))
    np.savez(tmp_path / "x.npz", x=np.array([{}], dtype=object))
    (tmp_path / "raw.npy").write_bytes(pickle.dumps([1.0]))
    for name in ("x.npy", "x.npz", "raw.npy"):
        with pytest.raises(click.ClickException, match="without pickle"):
            load_input(str(tmp_path / name), "x", kind)


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_broken_files(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(click.ClickException, match=name):
        load_input(str(tmp_path / name), "x", TensorType(DType.float32, (1,)))


def test_written_archives_take_any_name_and_bfloat16():
    buffer = io.BytesIO()
    write_npz(buffer, {"file": np.arange(3), "a.b/c": np.ones(2, ml_dtypes.bfloat16)})
    buffer.seek(0)
    read = np.load(buffer)
    assert read["file"].tolist() == [0, 1, 2]
    assert read["a.b/c"].dtype == np.float32
