"""Help, versions, and everything that can be typed wrong: one line on stderr, and a status."""

from __future__ import annotations

import importlib.util
import re
import signal
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from llamagen_async import __version__
from llamagen_async.cli import app, main
from llamagen_async.cli.app import cli
from llamagen_async.cli.app import run as run_here
from tests.support.cli import started

KEY = "lg-not-to-be-shown"
GOOD = '{"prompt": "a cat"}\n'


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Path:
    """An empty folder to work in, with a key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLAMAGEN_API_KEY", KEY)
    return tmp_path


def complaint(capfd: pytest.CaptureFixture[str]) -> str:
    """Return the one line that stands on stderr."""
    out, err = capfd.readouterr()
    assert not out
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert KEY not in err
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize("command", ["", *cli.list_commands(click.Context(cli))])
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(cli, [*filter(None, [command]), "--help"])
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")
    assert "\b" not in result.output


@pytest.mark.parametrize("command", ["generate", "batch", "status", "usage", "limits"])
def test_commands_that_call_the_api_name_their_variables(command: str) -> None:
    output = CliRunner().invoke(cli, [command, "--help"]).output
    names = ("API_KEY", "API_URL", "BASE_URL", "PLAN", "QUOTA", "SPEED")
    assert all(f"LLAMAGEN_{name}" in output for name in names)
    assert "demo|paid|auto" in output
    assert "safer" in output
    assert "memory to forget" in " ".join(output.split())


def test_the_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_here(["--version"]) == 0
    assert capfd.readouterr().out == f"llamagen-async {__version__}\n"


def test_nothing_typed_shows_the_help(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_here([]) == 2
    assert "demo" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("stories.jsonl", GOOD * 6 + '{"prompt": ""}', r"stories\.jsonl:7: prompt: got ''"),
        ("stories.jsonl", GOOD + "\n{prompt: 1}\n", r"stories\.jsonl:3: the line is not JSON"),
        ("stories.jsonl", "[1]", r"stories\.jsonl:1: .*an object of request fields"),
        ("stories.jsonl", '{"promt": "a"}', r"promt: .*did you mean 'prompt'"),
        ("stories.jsonl", '{"prompt": "a", "images": 3}', r"stories\.jsonl:1: images: got 3"),
        ("stories.jsonl", '{"prompt": NaN}', r"stories\.jsonl:1: .*NaN"),
        ("stories.jsonl", "[" * 100_000, r"stories\.jsonl:1: "),
        ("stories.jsonl", "\n\n", "no story in it"),
        ("stories.txt", "# nothing\n", "no story in it"),
        ("stories.csv", "a cat", r"stories\.csv:1: column 1: .* 'a cat' .*names the columns"),
    ],
)
def test_wrong_stories_say_where_and_cost_nothing(
    here: Path, capfd: pytest.CaptureFixture[str], name: str, content: str, said: str
) -> None:
    (here / name).write_text(content, encoding="utf-8")
    assert run_here(["batch", name, "--base-url", "http://127.0.0.1:9"]) == 2
    assert re.search(said, complaint(capfd))
    assert not (here / "comics").exists()


def test_a_line_that_is_not_utf8_says_where(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "stories.txt").write_bytes(b"a cat\n\xff\xfe\n")
    assert run_here(["batch", "stories.txt"]) == 2
    assert "stories.txt:2" in complaint(capfd)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["batch"], "STORIES"),
        (["batch", "missing.jsonl"], "missing.jsonl: No such file"),
        (["frobnicate"], "frobnicate"),
        (["generate", ""], "PROMPT: got ''"),
        (["generate", "x", "--size", "3x3"], "--size: got '3x3'"),
        (["generate", "x", "--panels", "44"], "--panels: got 44"),
        (["generate", "x", "--pages", "2"], "--panels-per-page"),
        (["generate", "x", "--pages", "2", "--panels-per-page", "30"], "--panels-per-page: got 30"),
        (["generate", "x", "--pages", "2", "--panels-per-page", "3", "--panels", "2"], "--panels"),
        (["status", "x", "--plan", "gold"], "gold"),
        (["status", "x", "--speed", "0"], "--speed"),
        (["status", "x", "--speed", "fast"], "--speed"),
        (["status", "x", "--base-url", "http://example.com"], "--base-url"),
        (["status", "x", "--api-key", "two words"], "--api-key (or LLAMAGEN_API_KEY): got"),
        (["status", ""], "ID: got ''"),
        (["status", "x", "--quota", "quota.db"], "--quota"),
        (["generate", "x", "--max-wait", "-1"], "--max-wait: got -1"),
        (["generate", "x", "--max-wait", "nan"], "--max-wait: got nan"),
        (["sandbox", "--latency", "soon"], "--latency"),
        (["sandbox", "--failure-rate", "2"], "--failure-rate"),
        (["sandbox", "--speed", "-1"], "--speed"),
        (["demo", "--plan", "gold"], "gold"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    here: Path, capfd: pytest.CaptureFixture[str], argv: list[str], said: str
) -> None:
    assert run_here(argv) == 2
    assert said in complaint(capfd)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (
            ["batch", "s.jsonl", "--out"],
            "llamagen-async batch: Option --out requires an argument",
        ),
        (["--json", "usage"], "--json; the options of a command stand after it ("),
        (["--speed", "3", "batch"], "--speed; the options of a command stand after it"),
        (["--sped"], "--sped; what begins with a dash and is no option goes after --"),
        (["usage", "--speed", "fast"], "fast is not a valid float (llamagen-async usage --help"),
    ],
)
def test_a_wrong_option_is_told_with_the_command_that_it_belongs_to(
    here: Path, capfd: pytest.CaptureFixture[str], argv: list[str], said: str
) -> None:
    """Not every version of click puts an option in quotes."""
    assert run_here(argv) == 2
    assert said in complaint(capfd).replace("'", "")


def test_a_wrong_variable_is_named(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No option was typed by those who have set it in another file."""
    monkeypatch.setenv("LLAMAGEN_SPEED", "fast")
    assert run_here(["usage"]) == 2
    assert "'fast' is not a valid float; it comes from LLAMAGEN_SPEED (" in complaint(capfd)


def test_no_key_says_what_to_do(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLAMAGEN_API_KEY")
    assert run_here(["status", "x"]) == 2
    assert "set LLAMAGEN_API_KEY" in complaint(capfd)


def test_a_page_that_is_not_ours_is_not_replaced(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "stories.txt").write_text("a cat\n", encoding="utf-8")
    (here / "index.html").write_text("<h1>My site</h1>", encoding="utf-8")
    assert run_here(["batch", "stories.txt", "--out", "."]) == 2
    assert "another folder" in complaint(capfd)
    assert (here / "index.html").read_text(encoding="utf-8") == "<h1>My site</h1>"


def test_results_that_are_not_ours_are_not_replaced(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "stories.txt").write_text("a cat\n", encoding="utf-8")
    (here / "results.jsonl").write_text('{"score": 1}\n', encoding="utf-8")
    assert run_here(["batch", "stories.txt", "--out", "."]) == 2
    assert "its results.jsonl was not made by llamagen-async; choose" in complaint(capfd)
    assert (here / "results.jsonl").read_text(encoding="utf-8") == '{"score": 1}\n'


@pytest.mark.parametrize("name", ["results.jsonl", "index.html"])
@pytest.mark.parametrize("argv", [["batch", "stories.txt"], ["batch", "stories.txt", "--dry-run"]])
def test_a_journal_is_no_file_that_results_are_written_to(
    here: Path, capfd: pytest.CaptureFixture[str], argv: list[str], name: str
) -> None:
    """Results would replace it, and all that was paid for with it."""
    (here / "stories.txt").write_text("a cat\n", encoding="utf-8")
    (here / "link").symlink_to("comics")
    assert run_here([*argv, "--journal", f"link/../link/{name}"]) == 2
    assert f"--journal link/../link/{name}: the results are written to that file" in (
        complaint(capfd)
    )
    assert not (here / "comics").exists()


def test_stories_are_no_file_that_results_are_written_to(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "results.jsonl").write_text(GOOD, encoding="utf-8")
    assert run_here(["batch", "results.jsonl", "--out", "."]) == 2
    assert "STORIES results.jsonl: the results are written to that file" in complaint(capfd)
    assert (here / "results.jsonl").read_text(encoding="utf-8") == GOOD


def test_a_folder_that_is_a_file(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "stories.txt").write_text("a cat\n", encoding="utf-8")
    assert run_here(["batch", "stories.txt", "--out", "stories.txt"]) == 2
    assert "--out stories.txt" in complaint(capfd)


def test_an_unreachable_server_is_waited_for_with_one_line(tmp_path: Path) -> None:
    """A server may be back at any time; whoever does not want to wait interrupts the command."""
    (tmp_path / "stories.txt").write_text("a cat\na dog\n", encoding="utf-8")
    argv = ("batch", "stories.txt", "--base-url", "http://127.0.0.1:9", "--speed", "100")
    env = {"LLAMAGEN_API_KEY": KEY, "LLAMAGEN_QUOTA": "memory"}
    with started(*argv, cwd=tmp_path, env=env) as process:
        assert process.stderr is not None
        told = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, rest = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "the server has not answered since" in told
    assert "waiting for it" in told
    assert (out + told + rest).count("no connection to 127.0.0.1:9") == 1
    assert "interrupted: 2 not sent" in rest
    assert "Traceback" not in rest
    assert KEY not in out + told + rest
    results = (tmp_path / "comics" / "results.jsonl").read_text(encoding="utf-8")
    assert results.count('"queued"') == 2


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def find(name: str, *rest: Any) -> object:
        return None if name == "rich" else object()

    monkeypatch.setattr(importlib.util, "find_spec", find)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert "llamagen-async[cli]" in err


@pytest.mark.parametrize("name", app._COMMANDS)
def test_the_help_says_of_a_command_what_its_own_help_begins_with(name: str) -> None:
    """The overview is shown without loading the commands."""
    command = app.cli.get_command(click.Context(app.cli), name)
    assert command is not None
    assert app._COMMANDS[name][1] == command.get_short_help_str(limit=200)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["btach"], "did you mean batch?"),
        (["jou"], "did you mean journal?"),
        (["update_panel"], "did you mean update-panel?"),
        (["create"], "did you mean generate?"),
        (["generate", "x", "--jsn"], "--json"),
    ],
)
def test_a_mistyped_word_gets_a_hint(
    here: Path, capfd: pytest.CaptureFixture[str], argv: list[str], said: str
) -> None:
    assert run_here(argv) == 2
    line = complaint(capfd)
    assert said in line
    assert "after --" not in line


def test_a_word_like_no_command_gets_none(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_here(["xyzzy"]) == 2
    assert "did you mean" not in complaint(capfd)
