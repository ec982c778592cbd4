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


def test_headers_that_are_kept_are_told_apart() -> None:
    """A message that differs from an earlier one only in a shape, an element type or a name."""
    arrays = [
        {"a": np.zeros((2, 3), np.float32)},
        {"a": np.zeros((3, 2), np.float32)},
        {"a": np.zeros((2, 3), np.int32)},
        {"b": np.zeros((2, 3), np.float32)},
        {},
    ]
    messages = [Message({"call": call}, held) for call in ("run", "set") for held in arrays]
    messages += [Message({"call": "run", "flag": flag}) for flag in ("1", 1, True, 1.0, None)]
    for _ in range(2):
        for message in messages:
            stream = io.BytesIO()
            send(stream, message)
            stream.seek(0)
            found = receive(stream)
            assert repr(found.about) == repr(message.about)
            described = [{n: (a.shape, a.dtype) for n, a in m.arrays.items()} for m in (found, message)]
            assert described[0] == described[1]


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
