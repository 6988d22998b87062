"""`continue`, `update-panel`, `animate` and `upload`, as people run them."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from llamagen_async.sandbox import Durations, Fault, SandboxService
from tests.support.cli import (
    FAST,
    Call,
    connection,
    needs_posix,
    run,
    sandbox_thread,
    seen,
    started,
)

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def comic(server: dict[str, Any], call: Call) -> str:
    """The id of a finished comic of two panels."""
    made = call("generate", "a cat", "--panels", "2", "--json", *FAST, env=connection(server))
    assert made.returncode == 0
    id_: str = json.loads(made.stdout)["id"]
    return id_


def test_a_comic_goes_on_and_all_its_pictures_are_fetched(
    server: dict[str, Any], comic: str, tmp_path: Path, call: Call
) -> None:
    env = connection(server)
    argv = ("continue", comic, "To the moon", "--panels", "1", "--out", "d")
    done = call(*argv, *FAST, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == f"{comic}  accepted"
    assert "page 2, 1 panel" in done.stdout
    assert len(list((tmp_path / "d").glob("*-p0*.png"))) == 3


def test_a_panel_is_drawn_again(server: dict[str, Any], comic: str, call: Call) -> None:
    env = connection(server)
    argv = ("update-panel", comic, "--panel", "1", "--prompt", "It smiles", "--json")
    done = call(*argv, *FAST, env=env)
    assert done.returncode == 0
    shown = json.loads(done.stdout)
    assert (shown["id"], shown["status"]) == (comic, "SUCCEEDED")
    assert shown["raw"]["usage"]["redraw_panels"] == 1
    begun = call(*argv[:-1], "--no-wait", "--json", *FAST, env=env)
    assert json.loads(begun.stdout)["status"] == "PENDING"


def test_changes_write_over_no_picture_that_is_there(
    server: dict[str, Any], comic: str, tmp_path: Path, call: Call
) -> None:
    """Neither one that was paid for nor one that somebody has lettered; nor does `status`."""
    folder = tmp_path / "d"
    change = ("--prompt", "It smiles", "--panel", "0")

    def pictures(*argv: str) -> dict[str, bytes]:
        done = call(*argv, "--out", "d", *FAST, env=connection(server))
        assert done.returncode == 0
        return {path.name.removeprefix(comic): path.read_bytes() for path in folder.iterdir()}

    before = pictures("status", comic)
    lettered = folder / f"{comic}-p01-02.png"
    lettered.write_bytes(before["-p01-02.png"] + b"lettered")
    redrawn = pictures("update-panel", comic, *change)
    assert redrawn["-p01-01.1.png"] == before["-p01-01.png"] != redrawn["-p01-01.png"]
    assert redrawn["-output.1.png"] == before["-output.png"] != redrawn["-output.png"]
    assert redrawn["-p01-02.png"].endswith(b"lettered")
    grown = pictures("continue", comic, "To the moon", "--panels", "1")
    assert grown.pop("-p02-01.png")
    assert grown["-output.2.png"] == redrawn["-output.png"] != grown.pop("-output.png")
    assert grown.items() >= redrawn.items() - {("-output.png", redrawn["-output.png"])}
    looked = pictures("status", comic)
    assert looked["-p01-02.1.png"].endswith(b"lettered")
    assert looked["-p01-02.png"] == before["-p01-02.png"]


def test_a_change_waits_for_its_own_end(tmp_path: Path, call: Call) -> None:
    """A program of its own does not know the comic, and is not misled by stale answers."""
    service = SandboxService(durations=Durations.constant(60.0), faults=[Fault("stale", 30.0)])
    with sandbox_thread(service) as server:
        env = connection(server)
        made = call("generate", "a cat", "--panels", "2", "--json", *FAST, env=env)
        id_ = json.loads(made.stdout)["id"]
        done = call("update-panel", id_, "--panel", "0", "--caption", "New", *FAST, env=env)
    assert done.returncode == 0
    assert "New" in done.stdout


def test_an_animation_is_made_and_fetched(
    server: dict[str, Any], tmp_path: Path, call: Call
) -> None:
    env = connection(server)
    argv = ("animate", "a boat", "--duration", "5", "--resolution", "720p", "--out", "d")
    made = call(*argv, *FAST, env=env)
    assert (made.returncode, made.stderr) == (0, "")
    (video,) = (tmp_path / "d").iterdir()
    assert f"video: d/{video.name}" in made.stdout
    begun = call("animate", "a boat", "--no-wait", *FAST, env=env)
    id_ = begun.stdout.split()[0]
    assert f"llamagen-async status {id_} --animation" in begun.stdout
    later = call("status", id_, "--animation", "--wait", "--json", *FAST, env=env)
    assert json.loads(later.stdout)["raw"]["videoUrl"]


def test_a_file_becomes_a_url(server: dict[str, Any], tmp_path: Path, call: Call) -> None:
    (tmp_path / "tom.png").write_bytes(PNG)
    env = connection(server)
    done = call("upload", "tom.png", *FAST, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("http://127.0.0.1:")
    told = json.loads(call("upload", "tom.png", "--json", *FAST, env=env).stdout)
    assert set(told) == {"url", "code", "raw"}
    assert told["raw"]["fileName"] == "tom.png"


@needs_posix
def test_a_pipe_is_uploaded_and_one_that_says_nothing_is_interrupted(
    server: dict[str, Any], tmp_path: Path
) -> None:
    """A pipe can be read only once, and who reads it can not be cancelled."""
    argv, env = ("upload", "/dev/stdin", "--json", *FAST), connection(server)
    done = run(*argv, cwd=tmp_path, env=env, stdin=PNG)
    assert (done.returncode, done.stderr) == (0, "")
    raw = json.loads(done.stdout)["raw"]
    assert (raw["fileName"], raw["size"], raw["contentType"]) == ("stdin", len(PNG), "image/png")
    os.mkfifo(tmp_path / "pipe")
    with started("upload", "pipe", *FAST, cwd=tmp_path, env=env) as process:
        writer = os.open(tmp_path / "pipe", os.O_WRONLY)  # waits for the reader
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        os.close(writer)


@needs_posix
def test_a_pipe_is_uploaded_although_it_can_be_read_only_once(
    server: dict[str, Any], tmp_path: Path, call: Call
) -> None:
    """As `upload <(convert tom.jpg png:-)` is: it was read for its size, and nothing was left."""
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(PNG,), daemon=True)
    writer.start()
    done = call("upload", "pipe", "--json", *FAST, env=connection(server))
    writer.join()
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["raw"]["fileName"] == "pipe"


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (("continue", "c", ""), "PROMPT: got ''"),
        (("continue", "c", "x", "--panels", "0"), "--panels: got 0"),
        (("continue", "c", "x", "--pages", "1"), "--panels-per-page"),
        (("continue", "", "x"), "ID: got ''"),
        (("update-panel", "c"), "--panel"),
        (("update-panel", "c", "--panel", "0"), "one of --prompt, --caption and --image"),
        (("update-panel", "c", "--panel", "-1", "--prompt", "x"), "--panel: got -1"),
        (("update-panel", "c", "--panel", "0", "--image", "x.png"), "images[0]: got 'x.png'"),
        (("animate", ""), "PROMPT: got ''"),
        (("animate", "x", "--duration", "0"), "--duration: got 0"),
        (("animate", "x", "--image", "x.png"), "--image: got 'x.png'"),
        (("upload", "nowhere.png"), "FILE: got 'nowhere.png'"),
        (("upload", "."), "FILE: got '.'"),
    ],
)
def test_wrong_usage_is_one_line_and_nothing_is_sent(
    server: dict[str, Any], call: Call, argv: tuple[str, ...], named: str
) -> None:
    before = seen(server)["total"]
    done = call(*argv, *FAST, env=connection(server))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert named in done.stderr
    assert seen(server)["total"] == before


def test_what_the_server_refuses_names_the_comic(server: dict[str, Any], call: Call) -> None:
    done = call("continue", "cmc_nobody", "x", *FAST, env=connection(server))
    assert (done.returncode, done.stdout) == (1, "")
    assert "cmc_nobody" in done.stderr


@pytest.mark.parametrize("command", ["continue", "update-panel", "animate", "upload"])
def test_the_help_teaches(call: Call, command: str) -> None:
    """Each says what it does and costs, and has --json."""
    shown = call(command, "--help")
    assert shown.returncode == 0
    assert "--json" in shown.stdout
    words = " ".join(shown.stdout.split())
    assert ("billed" in words) or ("credits" in words) or ("paid" in words)
