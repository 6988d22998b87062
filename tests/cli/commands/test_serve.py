"""The command `serve` refuses what is wrong at once; `tests/web/test_server.py` sees it serve."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from tests.support.cli import Call

KEY = ("--api-key", "sk-of-the-tests", "--base-url", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("argv", "status", "said"),
    [
        (("--host", "203.0.113.1"), 1, "no server on 203.0.113.1 port 8000"),
        (("--out", "file/x"), 2, "--out file/x"),
        (("--journal", "."), 1, "it is no regular file"),
        (("--max-queued", "0"), 2, "--max-queued"),
        (("--port", "70000"), 2, "--port"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    call: Call, tmp_path: Path, argv: tuple[str, ...], status: int, said: str
) -> None:
    (tmp_path / "file").touch()
    done = call("serve", *KEY, *argv)
    assert done.returncode == status
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_a_port_that_is_taken_is_named(call: Call) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = f"{taken.getsockname()[1]}"
        done = call("serve", *KEY, "--port", port)
    assert done.returncode == 1
    assert f"no server on 127.0.0.1 port {port}" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_a_key_it_does_not_start(call: Call) -> None:
    done = call("serve")
    assert done.returncode == 2
    assert "LLAMAGEN_API_KEY" in done.stderr


def test_an_extra_that_is_missing_is_named(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that installs it, and before anything is made."""
    found = "llamagen_async.cli.commands.serve.find_spec"
    monkeypatch.setattr(found, lambda name: None if name == "uvicorn" else sys)
    done = call("serve", *KEY)
    assert done.returncode == 2
    assert "uvicorn missing" in done.stderr
    assert "pip install 'llamagen-async[web]'" in done.stderr
    assert not (tmp_path / "comics").exists()
