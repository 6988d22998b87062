"""Streams as they come: closed, full, gone, of any encoding; what was paid for is not lost."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llamagen_async.cli.app import run as run_here
from llamagen_async.cli.errors import status_command
from llamagen_async.cli.output import Output
from llamagen_async.cli.streams import (
    NOT_SHOWN,
    discard_unwritten,
    is_terminal,
    prepare_streams,
    write_error,
    write_line,
)
from tests.support.cli import COMMAND, FAST, connection, environment, needs_posix

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device here")
CLOSED = ">&-"
FULL = pytest.param(">/dev/full", marks=needs_full)
STORIES = "".join(f"story {number}\n" for number in range(9))
ID = re.compile(r"cmc_\w+")


def shell(
    redirect: str, *argv: str, cwd: Path, env: dict[str, str], **streams: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command whose streams a shell has redirected."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirect}', "sh", *COMMAND, *argv],
        cwd=cwd,
        env=environment(**env),
        encoding="utf-8",
        timeout=120,
        check=False,
        **{**pipes, **streams},
    )


@pytest.mark.once
@needs_posix
@pytest.mark.parametrize("options", [("--no-wait",), (), ("--no-wait", "--json"), ("--json",)])
@pytest.mark.parametrize("redirect", [CLOSED, FULL])
def test_an_id_that_stdout_does_not_take_is_on_stderr(
    server: dict[str, Any], tmp_path: Path, redirect: str, options: tuple[str, ...]
) -> None:
    """The comic is paid for, and nobody else knows its id."""
    argv = ("generate", "a cat", "--panels", "1", *options, *FAST)
    done = shell(redirect, *argv, cwd=tmp_path, env=connection(server))
    assert done.returncode == 1
    assert "stdout can't be written: " in done.stderr
    assert re.search(r"accepted, llamagen-async status cmc_\w+ --speed 300 shows it\n", done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.once
@needs_posix
@pytest.mark.parametrize("options", [("--no-wait",), ("--no-wait", "--json")])
@pytest.mark.parametrize(
    "redirect", [">&- 2>&-", pytest.param(">/dev/full 2>/dev/full", marks=needs_full)]
)
def test_an_id_that_no_stream_takes_is_in_a_file_of_the_user(
    server: dict[str, Any], tmp_path: Path, redirect: str, options: tuple[str, ...]
) -> None:
    env = connection(server, XDG_STATE_HOME=str(tmp_path / "state"))
    argv = ("generate", "a cat", "--panels", "1", *options, *FAST)
    done = shell(redirect, *argv, cwd=tmp_path, env=env)
    assert done.returncode == 1
    (kept,) = tmp_path.rglob(NOT_SHOWN)
    said = r"UTC  .*accepted, llamagen-async status cmc_\w+ --speed 300 shows it\n"
    assert re.search(said, kept.read_text())
    if sys.platform == "linux":
        assert kept.stat().st_mode & 0o777 == 0o600
        assert kept.parent == tmp_path / "state" / "llamagen-async"


def test_the_file_of_what_was_not_shown_does_not_grow_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a folder that can't be written fail a command."""
    monkeypatch.setattr("platformdirs.user_state_path", lambda *_, **__: tmp_path / "state")
    monkeypatch.setattr(sys, "stderr", None)
    for _ in range(25):
        write_error(100_000 * "x")
    names = {path.name: path.stat().st_size for path in (tmp_path / "state").iterdir()}
    assert names.keys() == {NOT_SHOWN, "not-shown.old.log"}
    assert max(names.values()) < 1_200_000
    monkeypatch.setattr("platformdirs.user_state_path", lambda *_, **__: tmp_path / "a" / "b")
    (tmp_path / "a").write_text("a file where the folder should be")
    write_error("lost for good")


@pytest.mark.once
@needs_posix
def test_an_id_is_on_stderr_if_the_reader_has_left(server: dict[str, Any], tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    argv = ("generate", "a cat", "--no-wait", *FAST)
    done = shell("", *argv, cwd=tmp_path, env=connection(server), stdout=writing)
    os.close(writing)
    assert "can't be written" not in done.stderr
    assert ID.search(done.stderr)


@pytest.mark.once
def test_json_for_machines_leaves_the_id_on_stderr_while_the_comic_is_waited_for(
    server: dict[str, Any], tmp_path: Path
) -> None:
    argv = ("generate", "a cat", "--panels", "1", "--json", *FAST)
    done = shell("", *argv, cwd=tmp_path, env=connection(server))
    assert done.returncode == 0
    assert ID.findall(done.stderr) == [json.loads(done.stdout)["id"]]


@pytest.mark.once
@needs_posix
@pytest.mark.parametrize("redirect", [CLOSED, FULL])
@pytest.mark.parametrize("argv", [("limits",), ("limits", "--json"), ("usage",), ("--version",)])
def test_other_commands_fail_in_one_line(
    server: dict[str, Any], tmp_path: Path, redirect: str, argv: tuple[str, ...]
) -> None:
    more = () if argv == ("--version",) else FAST
    done = shell(redirect, *argv, *more, cwd=tmp_path, env=connection(server))
    if argv == ("--version",) and redirect == CLOSED:
        assert (done.returncode, done.stderr) == (0, "")  # as click has it
    else:
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1


@pytest.mark.once
@needs_posix
@pytest.mark.parametrize("redirect", ["2>&-", "<&-", "2>&- <&-", "<&- 2>&1 >/dev/null"])
def test_a_batch_needs_neither_stdin_nor_stderr(
    server: dict[str, Any], tmp_path: Path, redirect: str
) -> None:
    (tmp_path / "s.txt").write_text("a cat\n", encoding="utf-8")
    argv = ("batch", "s.txt", *FAST)
    done = shell(redirect, *argv, cwd=tmp_path, env=connection(server))
    assert done.returncode == 0
    assert "Traceback" not in done.stdout + done.stderr
    results = (tmp_path / "comics" / "results.jsonl").read_text(encoding="utf-8")
    assert json.loads(results)["state"] == "succeeded"


@pytest.mark.once
@needs_posix
@pytest.mark.parametrize("redirect", [CLOSED, FULL, ">&- 2>&-"])
def test_a_batch_goes_on_without_stdout(
    server: dict[str, Any], tmp_path: Path, redirect: str
) -> None:
    """Only a reader who has left wants no more; the journal and the files are there anyway."""
    (tmp_path / "s.txt").write_text("a cat\na dog\n", encoding="utf-8")
    done = shell(redirect, "batch", "s.txt", *FAST, cwd=tmp_path, env=connection(server))
    assert done.returncode == 1
    results = (tmp_path / "comics" / "results.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line)["state"] for line in results.splitlines()] == ["succeeded"] * 2
    assert "Traceback" not in done.stderr


@pytest.mark.once
@needs_posix
def test_a_story_file_takes_the_number_of_no_closed_stream(
    server: dict[str, Any], tmp_path: Path
) -> None:
    done = shell("<&-", "batch", "-", *FAST, cwd=tmp_path, env=connection(server))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "llamagen-async batch: stdin is not open\n"


@pytest.mark.once
@needs_posix
def test_a_stdin_that_can_not_be_read_is_one_line(server: dict[str, Any], tmp_path: Path) -> None:
    done = shell("<.", "batch", "-", *FAST, cwd=tmp_path, env=connection(server))
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "stdin" in done.stderr


@pytest.mark.once
@pytest.mark.parametrize("name", ["FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"])
def test_a_log_has_no_control_codes_whatever_a_variable_says(
    server: dict[str, Any], tmp_path: Path, name: str
) -> None:
    (tmp_path / "s.txt").write_text(STORIES, encoding="utf-8")
    env = connection(server, **{name: "1"})
    done = shell("", "batch", "s.txt", *FAST, cwd=tmp_path, env=env)
    assert done.returncode == 0
    assert (done.stderr, done.stdout.count("\x1b")) == ("", 0)
    table = shell("", "limits", *FAST, cwd=tmp_path, env=env)
    # Colours are what FORCE_COLOR asks for; a cursor is moved on a terminal only.
    assert re.sub(r"\x1b\[[\d;]*m", "", table.stdout).isascii()
    assert "\x1b" not in re.sub(r"\x1b\[[\d;]*m", "", table.stdout)


@pytest.mark.once
@needs_posix
@pytest.mark.parametrize(
    "locale",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ],
)
def test_letters_that_can_not_be_shown_are_replaced(
    server: dict[str, Any], tmp_path: Path, locale: dict[str, str]
) -> None:
    """The text is sent all the same, as UTF-8."""
    env = connection(server, **locale)
    argv = ("generate", "Ein Hündchen, 犬", "--no-wait", "--style", "wäßrig", *FAST)
    done = shell("", *argv, cwd=tmp_path, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Ein H?ndchen, ?" in done.stdout


@pytest.mark.once
@needs_posix
def test_an_argument_that_is_not_utf8_is_refused(server: dict[str, Any], tmp_path: Path) -> None:
    done = shell("", "generate", "caf\udce9", "--no-wait", cwd=tmp_path, env=connection(server))
    assert (done.returncode, done.stdout) == (2, "")
    assert "PROMPT: got 'caf\\udce9', allowed is text without bytes" in done.stderr


@pytest.mark.once
@needs_posix
@pytest.mark.parametrize("home", [{}, {"LLAMAGEN_QUOTA": ""}])
def test_a_user_without_a_home_gets_one_line(tmp_path: Path, home: dict[str, str]) -> None:
    program = "import sys, os; os.environ.pop('HOME', 0); os.environ.pop('XDG_STATE_HOME', 0)\n"
    program += "import pwd\ndef nobody(uid): raise KeyError(uid)\npwd.getpwuid = nobody\n"
    program += "from llamagen_async.cli import main; sys.argv[1:] = ['limits']; main()"
    env = environment(LLAMAGEN_API_KEY="x", **home)
    env.pop("LLAMAGEN_QUOTA")
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "no home folder" in done.stderr
    assert "--quota memory" in done.stderr


@pytest.mark.once
@pytest.mark.parametrize(
    ("id_", "folder"),
    [
        ("-Zr7PHNAjJI", "my  comics"),
        ("--help", None),
        ("cmc_1", "it's mine"),
        ("cmc_1", "-x"),
        ("a b;c", "new\nline"),
    ],
)
@needs_posix
def test_a_command_that_is_printed_can_be_pasted(id_: str, folder: str | None) -> None:
    line = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", line)
        Output(as_json=False).error(status_command(id_, folder))
    command = line.getvalue().removeprefix("llamagen-async: ").removeprefix("llamagen-async ")
    printed = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, text=True, check=True
    )
    words = printed.stdout.split("\0")[:-1]
    assert words[0] == "status"
    plain = words[1:] if "--" in words else ["--", *words[1:2], *words[2:]]
    assert id_ in plain
    if folder is not None:
        assert words[words.index("--out") + 1] == folder
    assert not id_.startswith("-") or words[words.index("--") + 1 :] == [id_]


@pytest.mark.parametrize("argv", [["status", "-Zr7"], ["generate", "- A robot says hello"]])
def test_what_begins_with_a_dash_is_told_where_to_go(
    argv: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_here(argv) == 2
    assert "goes after --" in capfd.readouterr().err


def test_a_stream_that_is_gone_is_told_by_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    assert str(write_line(None, "x")) == "[Errno 9] it is closed"
    assert "Input/output" in str(write_line(Failing(), "x"))
    closed = io.StringIO()
    closed.close()
    assert write_line(closed, "x") is not None
    assert not is_terminal(closed)
    assert not is_terminal(None)
    monkeypatch.setattr(sys, "stdout", Failing())
    output = Output(as_json=False)
    assert not output.print("lost")
    assert (output.is_lost, output.stdout_closed) == (True, False)


@needs_posix
def test_what_is_not_blocking_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that an event loop of another program has set so would lose lines."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with os.fdopen(writing, "w") as stream, os.fdopen(reading) as reader:
        monkeypatch.setattr(sys, "stdout", stream)
        prepare_streams()
        assert os.get_blocking(writing)
        os.set_blocking(writing, False)
        assert write_line(stream, "a line") is None
        assert os.get_blocking(writing)
        assert discard_unwritten() is None
        stream.close()
        assert reader.read() == "a line\n"


@pytest.mark.once
@needs_posix
def test_no_file_gets_the_number_of_a_closed_stream() -> None:
    """Otherwise whoever writes to stderr by its number writes into a picture."""
    program = (
        "import os, sys; from llamagen_async.cli.streams import prepare_streams; "
        "prepare_streams(); sys.exit(os.open(os.devnull, os.O_RDONLY))"
    )
    closing = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", program]
    done = subprocess.run(closing, env=environment(), check=False)
    assert done.returncode > 2
