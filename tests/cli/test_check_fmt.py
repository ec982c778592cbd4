"""`netdsl check` and `netdsl fmt`."""

import json
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from netdsl.cli import fmt
from netdsl.cli.main import command_line

GOOD = "network M {\n    input x: float32[N, 8]\n    output y = x -> dense(4)\n}\n"
LOOSE = "network   M {\ninput x: float32[N,8]   # the data\noutput y = x->dense(4)\n}\n"
BAD = "network M {\n    input x: float32[N, 8]\n    output y = x -> dens(4)\n}\n"
BROKEN = "network M {\n    input x: float32[N, 8\n    output y = x\n}\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make(name, text):
        (tmp_path / name).write_text(text)
        return name

    return make


def invoke(*arguments):
    return CliRunner().invoke(command_line, [*map(str, arguments)])


def test_ok_goes_to_stdout(write):
    result = invoke("check", write("m.net", GOOD))
    assert result.exit_code == 0
    assert result.stdout == "m.net: ok (no warnings)\n"
    assert result.stderr == ""


def test_quiet_says_nothing(write):
    assert invoke("check", "--quiet", write("m.net", GOOD)).output == ""


def test_errors_go_to_stderr_with_their_place(write):
    result = invoke("check", write("bad.net", BAD))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("bad.net:3:21: error:")
    assert "dense" in result.stderr


def test_several_files_are_all_checked(write):
    result = invoke("check", write("bad.net", BAD), write("m.net", GOOD), write("broken.net", BROKEN), "missing.net")
    assert result.exit_code == 1
    assert result.stdout == "m.net: ok (no warnings)\n"
    assert all(name in result.stderr for name in ("bad.net:3", "broken.net:", "missing.net"))


def test_an_imported_files_error_is_said_once(write):
    write("bad.net", BAD)
    files = [write(f"{n}.net", f'from "bad.net" import M\n{GOOD.replace("network M", "network K")}') for n in "ab"]
    result = invoke("check", *files)
    assert result.exit_code == 1
    assert result.stderr.count("error:") == 1


def test_json(write):
    result = invoke("check", "--format", "json", write("bad.net", BAD))
    assert result.exit_code == 1
    (found,) = json.loads(result.stdout)
    assert list(found) == [
        *("file", "line", "column", "end_line", "end_column"),
        *("severity", "name", "message", "notes", "help"),
    ]
    assert (found["file"], found["line"], found["column"]) == ("bad.net", 3, 21)
    assert (found["end_line"], found["end_column"]) == (3, 25)
    assert found["severity"] == "error"
    assert result.stderr == ""


def test_json_of_a_good_file_is_an_empty_list(write):
    result = invoke("check", "--format", "json", write("m.net", GOOD))
    assert result.exit_code == 0
    assert json.loads(result.stdout) == []


def test_json_of_a_missing_file(write):
    (found,) = json.loads(invoke("check", "--format", "json", "missing.net").stdout)
    assert (found["file"], found["line"]) == ("missing.net", 1)


def test_color(write):
    assert "\x1b[" in invoke("check", "--color", "always", write("bad.net", BAD)).stderr
    assert "\x1b[" not in invoke("check", "--color", "never", "bad.net").stderr
    assert "\x1b[" not in invoke("check", "bad.net").stderr


def test_fmt_writes_in_place_and_keeps_comments(write, tmp_path):
    result = invoke("fmt", write("m.net", LOOSE))
    assert result.exit_code == 0
    text = (tmp_path / "m.net").read_text()
    assert "    input x: float32[N, 8]" in text
    assert "# the data" in text
    assert invoke("fmt", "--check", "m.net").exit_code == 0
    assert [p.name for p in tmp_path.iterdir()] == ["m.net"]


def test_fmt_check_lists_what_would_change_and_writes_nothing(write, tmp_path):
    result = invoke("fmt", "--check", write("m.net", LOOSE), write("good.net", GOOD))
    assert result.exit_code == 1
    assert result.stdout == "m.net\n"
    assert (tmp_path / "m.net").read_text() == LOOSE


def test_fmt_leaves_a_broken_file_alone_and_goes_on(write, tmp_path):
    result = invoke("fmt", write("broken.net", BROKEN), write("m.net", LOOSE))
    assert result.exit_code == 1
    assert "broken.net:" in result.stderr
    assert (tmp_path / "broken.net").read_text() == BROKEN
    assert (tmp_path / "m.net").read_text() != LOOSE


def test_fmt_leaves_the_old_file_whole_when_writing_fails(write, tmp_path, monkeypatch):
    real = fmt.atomic_write

    class Full:
        def __init__(self, stream):
            self.stream = stream

        def write(self, data):
            self.stream.write(data[:5])
            raise OSError(28, "No space left on device", "m.net")

    @contextmanager
    def full(path):
        with real(path) as stream:
            yield Full(stream)

    monkeypatch.setattr(fmt, "atomic_write", full)
    result = invoke("fmt", write("m.net", LOOSE))
    assert result.exit_code == 1
    assert "m.net: No space left on device" in result.stderr
    assert (tmp_path / "m.net").read_text() == LOOSE
    assert [p.name for p in tmp_path.iterdir()] == ["m.net"]


WARNED = "network M {\n    input x: float32[N, 8]\n    z = x -> relu\n    output y = x -> dense(4)\n}\n"


def test_warnings_have_names_and_leave_the_status_at_0(write):
    result = invoke("check", write("w.net", WARNED))
    assert result.exit_code == 0
    assert result.stdout == "w.net: ok (1 warning)\n"
    assert result.stderr.startswith("w.net:3:5: warning: 'z' is never read [unused-value]\n")


def test_json_carries_the_names_of_warnings(write):
    result = invoke("check", "--format", "json", write("w.net", WARNED))
    assert result.exit_code == 0
    assert [(d["severity"], d["name"]) for d in json.loads(result.stdout)] == [("warning", "unused-value")]


@pytest.mark.parametrize("command", [("compile",), ("report", "--format", "csv")])
def test_other_commands_print_warnings_on_stderr_unless_quiet(write, command):
    name, *options = command
    result = invoke(name, write("w.net", WARNED), *options)
    assert result.exit_code == 0
    assert "[unused-value]" in result.stderr
    assert "unused-value" not in result.stdout
    assert "unused-value" not in invoke(name, "w.net", "--quiet", *options).output


def test_explain_prints_the_page_of_a_warning():
    result = invoke("check", "--explain", "bias-before-batch-norm")
    assert result.exit_code == 0
    assert result.stdout.startswith("bias-before-batch-norm: A bias right before a batch norm\n")
    assert "write  # netdsl: allow bias-before-batch-norm" in result.stdout


def test_explain_proposes_the_nearest_name():
    result = invoke("check", "--explain", "bias-before-batchnorm")
    assert result.exit_code == 2
    assert "There is no warning 'bias-before-batchnorm': did you mean bias-before-batch-norm?" in result.stderr
    assert "there are bias-before-batch-norm, dropout" in invoke("check", "--explain", "xyz").stderr


def test_a_check_needs_files_or_a_warning_to_explain():
    result = invoke("check")
    assert result.exit_code == 2
    assert "Missing argument 'FILE.net...'" in result.stderr


COMMENTED = {
    "inside argument lists": ("A = f(1,  # one\n# two\n2)\n", "A = f(1,  # one\n      # two\n      2)\n"),
    "after the last item": ("A = [1,\n2 # two\n# end\n]", "A = [\n    1,\n    2,  # two\n    # end\n]\n"),
    "between steps": (
        "A = x # first\n# then\n-> f # next\n-> g",
        "A = x  # first\n    # then\n    -> f  # next\n    -> g\n",
    ),
    "at the end without a line break": ("A = 1\n\n\n# end", "A = 1\n\n# end\n"),
    "behind the last word": ("A = 1 # end", "A = 1  # end\n"),
    "with carriage returns": ("# a\r\nA = 1 # b\r\n\r\n\r\n# c\r\n", "# a\nA = 1  # b\n\n# c\n"),
    "with tabs": ("\t# a\n\tA = 1\t# b\t\n", "# a\nA = 1  # b\n"),
    "that allow warnings": (
        "# netdsl: allow unused-value\nblock B(x) {\n  y = x # netdsl: allow unused-value (why)\nreturn x}",
        "# netdsl: allow unused-value\nblock B(x) {\n    y = x  # netdsl: allow unused-value (why)\n    return x\n}\n",
    ),
    "before else": (
        "block B(x) {\nif x.rank == 1 { y = x } # one\n# or\nelse { y = 2 * x }\nreturn y\n}",
        None,
    ),
}


@pytest.mark.parametrize("place", COMMENTED)
def test_fmt_keeps_comments(write, tmp_path, place):
    before, after = COMMENTED[place]
    (tmp_path / "m.net").write_bytes(before.encode())
    assert invoke("fmt", "m.net").exit_code == 0
    text = (tmp_path / "m.net").read_bytes().decode()
    if after is not None:
        assert text == after
    assert text.count("#") == before.count("#")
    assert invoke("fmt", "--check", "m.net").exit_code == 0
