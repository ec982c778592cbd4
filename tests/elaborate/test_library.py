"""The index of the standard library, which messages list."""

from __future__ import annotations

from netdsl.elaborate.library import LIBRARY, library_file, library_index
from netdsl.source import SourceFile
from netdsl.syntax import tree
from netdsl.syntax.parse import parse


def test_the_index_is_what_the_files_define() -> None:
    index = library_index()
    assert index.keys() >= {"std:layers", "std:resnet"}
    for name, found in index.items():
        path = library_file(name)
        assert path and path.is_relative_to(LIBRARY)
        file, problems = parse(SourceFile(name, path.read_text(encoding="utf-8")))
        assert not problems
        kinds = tree.Constant | tree.Block | tree.Network
        assert found == [d.name.id for d in file.definitions if isinstance(d, kinds)]


def test_names_do_not_leave_the_library() -> None:
    assert library_file("std:layers.net") == library_file("std:layers") == LIBRARY / "layers.net"
    for name in ("std:../std/layers", "std:", "std:/layers", "std:layers.py", "std:LAYERS"):
        assert library_file(name) is None
