"""The streams of a command: a reader may be gone."""

from __future__ import annotations

import contextlib
import io
import json
import sys

import pytest
from rich.console import Console

from llamagen_async.cli.output import Output


def test_people_and_machines_read_the_same_stream(capsys: pytest.CaptureFixture[str]) -> None:
    for as_json in (False, True):
        output = Output(as_json=as_json)
        output.print("for people")
        output.emit_json({"for": "machines ü"})
    people, machines = capsys.readouterr().out.splitlines()
    assert people == "for people"
    assert machines.isascii()
    assert json.loads(machines) == {"for": "machines ü"}


def test_an_error_is_one_line_after_the_commands_name(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=False, command="batch").error("two\nlines \x1b[31m")
    assert capsys.readouterr().err == "llamagen-async batch: two lines [31m\n"


def test_a_stderr_that_nobody_reads_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Gone())
    Output(as_json=False).error("lost")


def test_a_terminal_gets_a_spinner_and_the_lines_for_people(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    monkeypatch.setattr("llamagen_async.cli.output._live_terminal", lambda: console)
    output = Output(as_json=True)
    with output.spinner("Waiting [bold]"):
        output.print("a line")
    assert "Waiting [bold]" in screen.getvalue()
    assert "a line" in screen.getvalue()
    assert capsys.readouterr().out == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_that_a_command_has_begun_until_it_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with contextlib.suppress(KeyboardInterrupt), Output(as_json=True).loading():
        assert screen.getvalue() == "Starting ..."
        raise KeyboardInterrupt
    began, covered, after = screen.getvalue().split("\r")
    assert began == "Starting ..."
    assert covered == " " * len(began)
    assert after == ""


@pytest.mark.parametrize("why", ["quiet", "dumb", "no terminal", "closed", "piped"])
def test_nothing_is_shown_where_no_line_can_be_written_over(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO() if why == "no terminal" else Terminal()
    monkeypatch.setattr(sys, "stderr", None if why == "closed" else screen)
    monkeypatch.setenv("TERM", "dumb" if why == "dumb" else "xterm")
    monkeypatch.setattr("llamagen_async.cli.output.is_pipe", lambda _stream: why == "piped")
    with Output(as_json=False, is_quiet=why == "quiet").loading():
        pass
    assert screen.getvalue() == ""


def test_a_terminal_beside_json_gets_prose_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=40)
    monkeypatch.setattr("llamagen_async.cli.output._live_terminal", lambda: console)
    Output(as_json=True).tell("The limit of 15 requests per day pays for about 7 comics now.")
    assert screen.getvalue().splitlines() == [
        "The limit of 15 requests per day pays",
        "for about 7 comics now.",
    ]


def test_quiet_leaves_out_what_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    for is_quiet in (False, True):
        output = Output(as_json=False, is_quiet=is_quiet)
        output.tell("on the way")
        output.print("a result")
    assert capsys.readouterr().out == "on the way\na result\na result\n"


def test_prose_is_broken_between_words_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line that is to be pasted stays whole, and so does everything that goes into a file."""
    text = "The limit of 15 requests per day pays for about 7 comics now."
    Output(as_json=False).tell(text)
    monkeypatch.setattr(Output, "has_terminal", property(lambda self: True))
    monkeypatch.setenv("COLUMNS", "40")
    output = Output(as_json=False)
    output.tell(text)
    output.print(text)
    assert capsys.readouterr().out.splitlines() == [
        text,
        "The limit of 15 requests per day pays",
        "for about 7 comics now.",
        text,
    ]
