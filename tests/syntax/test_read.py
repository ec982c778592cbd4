"""Files that cannot be read, each with an error of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from netdsl.diagnostics import Diagnostic, DiagnosticError, render
from netdsl.syntax.read import MAX_BYTES, read_source


def failure(path: Path) -> Diagnostic:
    with pytest.raises(DiagnosticError) as caught:
        read_source(path, path.name)
    (diagnostic,) = caught.value.diagnostics
    render(diagnostic)
    return diagnostic


def test_a_missing_file_offers_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "resnet50.net").write_text("")
    diagnostic = failure(tmp_path / "resnet5.net")
    assert diagnostic.message == "there is no such file"
    assert diagnostic.help == ("did you mean 'resnet50.net'?",)


def test_a_missing_folder(tmp_path: Path) -> None:
    assert failure(tmp_path / "absent" / "a.net").help == ()


def test_a_directory_names_its_files(tmp_path: Path) -> None:
    (tmp_path / "a.net").write_text("")
    diagnostic = failure(tmp_path)
    assert diagnostic.message == "this is a directory, not a .net file"
    assert diagnostic.help == ("name one of its files: a.net",)


def test_bytes_that_are_not_utf8_have_a_place(tmp_path: Path) -> None:
    path = tmp_path / "latin.net"
    path.write_bytes("A = 1\nB = 'ü".encode() + b"\xe9'\n")
    diagnostic = failure(path)
    assert diagnostic.message == "the file is not UTF-8: byte 0xE9 cannot stand here"
    assert str(diagnostic.place) == "latin.net:2:7"


@pytest.mark.parametrize(
    ("data", "message", "place"),
    [
        (b"A = 1\n  \0", "the file holds a NUL byte: it is no text", "bad.net:2:3"),
        ("A = 1".encode("utf-16"), "the file is UTF-16, expected UTF-8", "bad.net:1:1"),
        (
            b"#" * (MAX_BYTES + 1),
            "the file is larger than 3 MB: too large for a description of a network",
            "bad.net:1:1",
        ),
    ],
)
def test_unfit_contents(tmp_path: Path, data: bytes, message: str, place: str) -> None:
    path = tmp_path / "bad.net"
    path.write_bytes(data)
    diagnostic = failure(path)
    assert (diagnostic.message, str(diagnostic.place)) == (message, place)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert failure(tmp_path / "secret.net").message == "the file cannot be read: permission denied"


def test_an_empty_file_and_a_byte_order_mark_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "a.net"
    path.write_bytes(b"")
    assert read_source(path).text == ""
    path.write_bytes(b"\xef\xbb\xbfA = 1\r\n")
    assert read_source(path).text == "A = 1\r\n"


def test_a_name_with_a_nul_byte() -> None:
    assert "cannot be read" in failure(Path("a\0.net")).message
