"""Messages between the processes: what goes in comes out, and what is no message is the end."""

from __future__ import annotations

import io

import ml_dtypes
import numpy as np
import pytest

from netdsl.training.engines.onnxruntime_training.wire import Closed, Message, blob, receive, send


def test_arrays_and_data_arrive() -> None:
    arrays = {
        "numbers": np.arange(6, dtype=np.float32).reshape(2, 3).T,  # not contiguous
        "scalar": np.asarray(3, np.int64),
        "none": np.zeros((0, 4), np.float64),
        "small": np.asarray([1.5, -2.0], ml_dtypes.bfloat16),
        "truth": np.asarray([True, False]),
        "bytes": blob(b"\x00\xff"),
    }
    stream = io.BytesIO()
    send(stream, Message({"call": "run", "names": ["a"]}, arrays))
    send(stream, Message({}))
    stream.seek(0)
    first = receive(stream)
    assert first.about == {"call": "run", "names": ["a"]}
    assert first.blob("bytes") == b"\x00\xff"
    for name, array in arrays.items():
        assert first.arrays[name].dtype == array.dtype
        assert first.arrays[name].shape == array.shape
        np.testing.assert_array_equal(first.arrays[name], array)
    assert receive(stream).about == {}
    with pytest.raises(Closed):
        receive(stream)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"short",
        b"something printed into the pipe",
        (5).to_bytes(8, "little") + b"[1,2]",
        (2).to_bytes(8, "little") + b"{}",
    ],
)
def test_what_is_no_message_ends_the_conversation(data: bytes) -> None:
    with pytest.raises(Closed):
        receive(io.BytesIO(data))


def test_a_reader_that_is_gone() -> None:
    stream = io.BytesIO()
    stream.close()
    with pytest.raises(Closed):
        send(stream, Message({}))
