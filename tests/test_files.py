"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from netdsl.files import atomic_write, atomic_writes

ROOT = Path(__file__).parent.parent


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    return path


def test_writes_and_leaves_nothing_beside(target):
    with atomic_write(target) as stream:
        stream.write(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_file(target, failure):
    with pytest.raises(failure), atomic_write(target) as stream:
        stream.write(b"new")
        raise failure
    assert target.read_bytes() == b"old"
    assert list(target.parent.iterdir()) == [target]


def test_a_full_disk_names_the_file_and_leaves_the_old_one(target, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as caught, atomic_write(target) as stream:
        stream.write(b"new")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(target))
    assert target.read_bytes() == b"old"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX limits")
def test_a_write_that_the_system_refuses(target):
    """A limit on the size of files fails in the middle of a write, as a full disk does."""
    code = (
        "import resource, signal, sys; sys.path.insert(0, sys.argv[2])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "from netdsl.files import atomic_write\n"
        "try:\n"
        "    with atomic_write(sys.argv[1]) as stream:\n"
        "        for _ in range(64): stream.write(bytes(1 << 16))\n"
        "except OSError as error: print(error.filename, error.strerror)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, target, ROOT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{target} File too large"
    assert target.read_bytes() == b"old"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_kill_leaves_the_old_file(target):
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[2])\n"
        "from netdsl.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as stream:\n"
        "    stream.write(bytes(1 << 22)); print('half', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, target, ROOT], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "half\n"
    time.sleep(0.05)
    process.kill()
    process.wait()
    assert target.read_bytes() == b"old"


def test_several_files_change_together(tmp_path):
    paths = [tmp_path / "model.onnx.data", tmp_path / "model.onnx"]
    for path in paths:
        path.write_bytes(b"old")
    with pytest.raises(ValueError), atomic_writes(paths) as (data, model):
        data.write(b"new")
        model.write(b"new")
        raise ValueError
    assert [p.read_bytes() for p in paths] == [b"old", b"old"]
    with atomic_writes(paths) as streams:
        for stream in streams:
            stream.write(b"new")
    assert [p.read_bytes() for p in paths] == [b"new", b"new"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_permissions_and_links_stay(target):
    target.chmod(0o640)
    link = target.with_name("link.onnx")
    link.symlink_to(target.name)
    with atomic_write(link) as stream:
        stream.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o640


def test_what_is_no_regular_file_is_written_in_place():
    with atomic_write(os.devnull) as stream:
        stream.write(b"new")
    assert not Path(os.devnull).is_file()


def test_a_missing_folder_is_named(tmp_path):
    path = tmp_path / "nowhere" / "model.onnx"
    with pytest.raises(FileNotFoundError) as caught, atomic_write(path):
        pass
    assert caught.value.filename == str(path)


def test_errors_of_other_files_keep_their_names(target, tmp_path):
    with pytest.raises(FileNotFoundError) as caught, atomic_write(target):
        (tmp_path / "other").read_bytes()
    assert caught.value.filename == str(tmp_path / "other")
