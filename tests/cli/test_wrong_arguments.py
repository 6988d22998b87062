"""Wrong options and arguments of every command: status 2, one line, and nothing is sent.

The options are read from the commands themselves, so that a new one needs its wrong values here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from llamagen_async.cli.app import cli
from tests.support.cli import Call

NOWHERE = {"LLAMAGEN_API_KEY": "sk-nobody", "LLAMAGEN_API_URL": "http://127.0.0.1:9"}
"""A server that is not there: whatever is sent ends with status 1."""
SECONDS = ["0", "-1", "soon", "nan", "inf"]
COUNT = ["0", "21", "-1", "x", "1.5"]
INDEX = ["-1", "x", "1.5"]
TEXT = ["", " ", "a\x01"]
FOLDER = ["a-file", "a-file/in"]
URL = ["x.png", "ftp://x"]
CHOICE = ["nonsense", ""]

GOOD: dict[str, list[str]] = {
    "demo": [],
    "generate": ["x"],
    "batch": ["stories.txt"],
    "redraw": ["done", "x", "--panel", "0", "--prompt", "x"],
    "journal": ["."],
    "export": ["done", "--format", "cbz"],
    "status": ["c"],
    "continue": ["c", "x"],
    "update-panel": ["c", "--panel", "0", "--prompt", "x"],
    "animate": ["x"],
    "upload": ["a-file"],
    "usage": [],
    "limits": [],
    "doctor": ["--measure", "--yes"],
    "serve": ["--port", "0"],
    "sandbox": ["--port", "0"],
}
"""A good call of each command; an option with a wrong value is added to it."""
ARGUMENTS: dict[str, list[list[str]]] = {
    "generate": [[], *([one] for one in TEXT)],
    "batch": [["nowhere.txt"], [""], ["."], ["empty.jsonl", "--out", "d"]],
    "redraw": [["done"], ["done", "x"], ["done", "x", "--prompt", "x"], ["nowhere", "x.png"]],
    "journal": [["nowhere"], ["done"], [""], ["a\x00"]],
    "export": [
        *(
            [],
            ["done"],
            ["done", "x"],
            ["done", "--format", "cbz"],
            ["done", "x", "--format", "pdf"],
        ),
        *([one, "--format", "cbz"] for one in ("nowhere", "", "a\x00", "empty")),
    ],
    "status": [[], *([one] for one in (*TEXT, "..", " c"))],
    "continue": [["c"], *(["c", one] for one in TEXT), *([one, "x"] for one in (*TEXT, ".."))],
    "update-panel": [["c"], ["c", "--panel", "0"], ["..", "--panel", "0", "--prompt", "x"]],
    "animate": [[], *([one] for one in TEXT)],
    "upload": [[], ["nowhere"], ["."], ["empty"]],
}
"""Calls of each command whose arguments are wrong."""
WRONG: dict[str, list[str]] = {
    "--algorithm": CHOICE,
    "--format": CHOICE,
    "--api-key": ["a b", "\u00e9", "a\nb"],
    "--aspect-ratio": TEXT,
    "--base-url": ["ftp://x", "http://example.com", "x y", "http://"],
    "--budget": ["-1", "x", "nan"],
    "--caption": TEXT,
    "--dialect": CHOICE,
    "--duration": ["0", "-1", "x", "5000", "nan"],
    "--failure-rate": ["-1", "2", "x", "nan"],
    "--fault": ["nonsense", "error:418", "drop:rate=2", "drop:on=x", "event-lost"],
    "--filename": TEXT,
    "--image": URL,
    "--journal": ["a\x00"],
    "--language": TEXT,
    "--last-frame-image": URL,
    "--latency": ["x", "-1", "2:1"],
    "--log-level": CHOICE,
    "--max-queued": ["0", "-1", "x"],
    "--max-wait": SECONDS,
    "--metered": ["nonsense"],
    "--model": TEXT,
    "--out": FOLDER,
    "--page": INDEX,
    "--pages": COUNT,
    "--panel": INDEX,
    "--panels": COUNT,
    "--panels-per-page": COUNT,
    "--plan": CHOICE,
    "--port": ["-1", "70000", "x"],
    "--preset": TEXT,
    "--price": ["x", "panel=-1", "nonsense=1", "panel=nan"],
    "--prompt": TEXT,
    "--proxy": ["x", "ftp://x"],
    "--quota": ["x", "sqlite:///", "mysql://x"],
    "--resolution": TEXT,
    "--seed": ["x", "1.5"],
    "--size": ["", "big", "0x0"],
    "--speed": ["0", "-1", "x", "nan"],
    "--state": CHOICE,
    "--style": TEXT,
    "--timeout": SECONDS,
    "--video-seed": ["x", "1.5"],
    "--id": ["", "..", " c"],
    "--with": ["nowhere.json", "a-file", ""],
    "--webhook": ["x", "ftp://x"],
    "--webhook-data": CHOICE,
}
"""Wrong values of each option, by its name."""
WITH: dict[str, list[str]] = {
    "--pages": ["--panels-per-page", "2"],
    "--panels-per-page": ["--pages", "2"],
    "--webhook": ["--webhook-secret", "s"],
    "--webhook-data": ["--webhook-secret", "s", "--webhook", "http://127.0.0.1:9"],
}
"""Options without which another makes no sense."""
NAMED = {
    "--journal": "journal",
    "--image": "image",
    "--with": "",
}
"""The names of options that a message may say in another way."""
SECRET = {"--api-key", "--quota", "--proxy"}
"""Options whose values may hold a secret, so that no message shows them."""
CONNECTION = {"--api-key", "--base-url", "--plan", "--metered", "--quota", "--proxy", "--speed"}
"""Options of the connection: what is wrong with them is what `doctor` is there to tell."""
NOTHING_WRONG = {"--host", "--webhook-secret"}
"""Options that take any text: whether a host has an address, the system knows."""


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its name, those of groups as two words."""
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        yield name, command


def options() -> Iterator[tuple[str, str]]:
    """Yield every option that takes a value, and its command."""
    for name, command in commands():
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.is_flag:
                option = max(parameter.opts, key=len)
                is_finding = name == "doctor" and option in CONNECTION
                if option not in NOTHING_WRONG and not is_finding:
                    yield name, option


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("x")
    (tmp_path / "empty").write_text("")
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "done").mkdir()
    (tmp_path / "done/journal.db").write_text("x")
    (tmp_path / "stories.txt").write_text("A cat\n")


def assert_refused(call: Call, argv: list[str], *named: str) -> None:
    """Assert that a call ends with status 2 and one line that names all of `named`."""
    done = call(*argv, env=NOWHERE)
    assert (done.returncode, done.stdout) == (2, ""), (argv, done)
    assert len(done.stderr.strip().splitlines()) == 1, (argv, done.stderr)
    for one in named:
        assert one in done.stderr, (argv, done.stderr)
    assert "Traceback" not in done.stderr


def test_every_command_has_a_good_call_and_wrong_arguments() -> None:
    assert list(GOOD) == [name for name, _ in commands()]
    with_arguments = [
        name
        for name, command in commands()
        if any(isinstance(parameter, click.Argument) for parameter in command.params)
    ]
    assert list(ARGUMENTS) == with_arguments


@pytest.mark.parametrize(("name", "option"), list(options()))
def test_a_wrong_option_is_refused_before_anything_is_sent(
    name: str, option: str, call: Call
) -> None:
    assert option in WRONG, f"no wrong values for {option} of {name}"
    for value in WRONG[option]:
        is_shown = value.isprintable() and option not in SECRET
        argv = [name, *GOOD[name], *WITH.get(option, []), f"{option}={value}"]
        assert_refused(
            call, argv, NAMED.get(option, option), value.partition("=")[0] if is_shown else ""
        )


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_wrong_argument_is_refused_before_anything_is_sent(name: str, call: Call) -> None:
    for arguments in ARGUMENTS[name]:
        assert_refused(call, [name, *arguments])
