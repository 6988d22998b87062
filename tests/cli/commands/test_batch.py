"""The batch command as people run it: a sandbox in one process, a batch in another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from llamagen_async.sandbox import Durations, SandboxService
from tests.support.cli import (
    FAST,
    Call,
    connection,
    lines_until,
    needs_posix,
    run,
    sandbox_thread,
    started,
)

SMALL = '"size": "512x768", "fix_panel_num": 1'
"""Fields of a comic that is drawn quickly."""
TWO = f'{{"prompt": "a cat", {SMALL}}}\n{{"prompt": "a dog", "fixPanelNum": 1}}\n'


def many(number: int) -> str:
    """Return so many stories."""
    return "".join(f'{{"prompt": "story {n} of a bear", {SMALL}}}\n' for n in range(number))


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_batch_of_json_lines(server: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "stories.jsonl").write_text(TWO, encoding="utf-8")
    argv = ("batch", "stories.jsonl", "--out", "out/comics", *FAST)
    done = run(*argv, cwd=tmp_path, env=connection(server))
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 comics, about" in done.stdout
    assert "2 of 2 comics done" in done.stdout
    folder = tmp_path / "out" / "comics"
    results = json_lines((folder / "results.jsonl").read_text(encoding="utf-8"))
    assert [(one["index"], one["state"], one["label"]) for one in results] == [
        (0, "succeeded", "stories.jsonl:1"),
        (1, "succeeded", "stories.jsonl:2"),
    ]
    files = {name for one in results for name in one["files"]}
    ours = {"results.jsonl", "index.html", "journal.db", "journal.db-owner"}
    assert files | ours == {path.name for path in folder.iterdir()}
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert all(panel["file"] in page for one in results for panel in one["pages"][0])


def test_text_then_stdin_into_the_same_folder(
    server: dict[str, Any], tmp_path: Path, call: Call
) -> None:
    env = connection(server)
    (tmp_path / "stories.txt").write_bytes(b"\xef\xbb\xbfa ship\r\n# no\r\n")
    assert call("batch", "stories.txt", *FAST, env=env).returncode == 0
    argv = ("batch", "-", "--json", *FAST)
    done = call(*argv, env=env, stdin="ein Bär\n\na fox".encode())
    assert (done.returncode, done.stderr) == (0, "")
    assert {one["label"] for one in json_lines(done.stdout)} == {"stdin:1", "stdin:3"}
    results = (tmp_path / "comics" / "results.jsonl").read_text(encoding="utf-8")
    assert [one["prompt"] for one in json_lines(results)] == ["a ship", "ein Bär", "a fox"]


def test_stdin_is_read_as_it_comes(server: dict[str, Any], tmp_path: Path) -> None:
    argv = ("batch", "-", "--json", *FAST)
    with started(*argv, cwd=tmp_path, env=connection(server), stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(TWO.splitlines()[0] + "\n")
        process.stdin.flush()
        first = json.loads(lines_until(process, "{")[-1])
        process.stdin.close()
        assert first["state"] == "succeeded"
        assert process.wait(30) == 0


def test_a_wrong_line_of_stdin_fails_alone(server: dict[str, Any], call: Call) -> None:
    content = f'{TWO.splitlines()[0]}\n{{"prompt": ""}}\nno json\n'.encode()
    argv = ("batch", "-", "--json", *FAST)
    done = call(*argv, env=connection(server), stdin=content)
    assert done.returncode == 1
    states = {one["label"]: one["state"] for one in json_lines(done.stdout)}
    assert states == {"stdin:1": "succeeded", "stdin:2": "failed", "stdin:3": "failed"}
    assert "stdin:2: prompt" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_key_is_one_line(server: dict[str, Any], tmp_path: Path, call: Call) -> None:
    (tmp_path / "stories.jsonl").write_text(TWO, encoding="utf-8")
    env = {**connection(server), "LLAMAGEN_API_KEY": "lg-wrong-0123456789"}
    done = call("batch", "stories.jsonl", *FAST, env=env)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "API key is not accepted" in done.stderr
    everything = done.stdout + done.stderr
    everything += "".join(path.read_text("latin-1") for path in (tmp_path / "comics").iterdir())
    assert "0123456789" not in everything


def test_no_credits_leaves_the_rest_ready_to_be_sent(
    server: dict[str, Any], tmp_path: Path, call: Call
) -> None:
    (tmp_path / "stories.jsonl").write_text(TWO, encoding="utf-8")
    env = connection(server, "sandbox-empty")
    done = call("batch", "stories.jsonl", *FAST, env=env)
    assert done.returncode == 1
    assert "not enough credits" in done.stderr
    assert "2 not sent" in done.stdout
    assert "\nThe rest: the same command again goes on where this stopped\n" in done.stdout
    again = call("batch", "stories.jsonl", *FAST, env=env)
    assert "going on with comics/journal.db: 0 done, 0 running, 2 to send" in again.stdout
    # No key has paid for anything in this journal, so another one may.
    other = call("batch", "stories.jsonl", *FAST, env=connection(server))
    assert other.returncode == 0, other.stderr
    # From now on it is about that key: what another key paid for can't be collected.
    wrong = call("batch", "stories.jsonl", *FAST, env=env)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr.count("\n") == 1
    assert "another API key" in wrong.stderr


def test_a_batch_on_the_demo_plan_says_how_many_comics_today_pays_for(
    tmp_path: Path, call: Call
) -> None:
    (tmp_path / "stories.jsonl").write_text(many(10), encoding="utf-8")
    with sandbox_thread(speed="900") as server:
        env = connection(server, "sandbox-demo")
        # The last checks come late: the day has hardly more than one for each comic.
        argv = ("batch", "stories.jsonl", "--speed", "900", "--timeout", "30000")
        done = call(*argv, env=env)
    assert done.returncode == 1
    assert "pays for about 7 comics now: 3 of the 10 stories will probably not" in done.stdout
    assert "there is room again from 20" in done.stdout
    assert "7 comics, about 16 min" in done.stdout
    assert done.stderr.count("\n") == 1
    assert "the limit of 15 requests per day has no room now; there is room from 20" in done.stderr
    results = json_lines((tmp_path / "comics" / "results.jsonl").read_text(encoding="utf-8"))
    unsent = [one for one in results if one["state"] == "queued"]
    assert f" done, {len(unsent)} not sent; " in done.stdout
    assert "\nThe rest: the same command again goes on where this stopped\n" in done.stdout
    assert "0 refused" in done.stdout


def test_a_closed_stdout_prints_no_error(server: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "stories.jsonl").write_text(TWO, encoding="utf-8")
    argv = ("batch", "stories.jsonl", "--json", *FAST)
    with started(*argv, cwd=tmp_path, env=connection(server)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(30) == 1
        assert process.stderr.read() == ""
    assert (tmp_path / "comics" / "results.jsonl").exists()


def test_a_failed_comic_gives_its_reason(tmp_path: Path, call: Call) -> None:
    (tmp_path / "stories.txt").write_text("a cat\n", encoding="utf-8")
    with sandbox_thread(SandboxService(failure_rate=1.0)) as server:
        done = call("batch", "stories.txt", *FAST, env=connection(server))
        alone = call("generate", "a cat", *FAST, env=connection(server))
    assert (done.returncode, alone.returncode) == (1, 1)
    assert "ended as FAILED: " in done.stderr
    assert alone.stderr.count("\n") == 1
    assert 'class="problem"' in (tmp_path / "comics" / "index.html").read_text(encoding="utf-8")


@needs_posix
def test_ctrl_c_stops_at_once_and_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "stories.jsonl").write_text(many(20), encoding="utf-8")
    slow = SandboxService(durations=Durations.constant(9000.0))
    with (
        sandbox_thread(slow) as server,
        started("batch", "stories.jsonl", *FAST, cwd=tmp_path, env=connection(server)) as process,
    ):
        while len(slow.stats(0.0)["generations"]) < 10:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in out + err
    # What became of a create that was on its way is told as soon as it is known.
    known = ("llamagen-async: cancelled, but already accepted: ", "llamagen-async: left while ")
    first = next(line for line in err.splitlines() if not line.startswith(known))
    assert first.startswith("llamagen-async batch: interrupted: ")
    folder = tmp_path / "comics"
    assert not list(folder.glob(".*"))
    results = json_lines((folder / "results.jsonl").read_text(encoding="utf-8"))
    # Those that were not read yet are in the file, and nowhere else.
    places = [f"stories.jsonl:{n}" for n in range(1, len(results) + 1)]
    assert [one["label"] for one in results] == places
    running = [one["id"] for one in results if one["state"] == "running"]
    assert len(running) == len(slow.stats(0.0)["generations"])
    assert all(f"llamagen-async status {id_} --out comics" in err for id_ in running)


@needs_posix
def test_ctrl_c_ends_a_batch_that_waits_for_stdin(server: dict[str, Any], tmp_path: Path) -> None:
    argv = ("batch", "-", *FAST)
    with started(*argv, cwd=tmp_path, env=connection(server), stdin=subprocess.PIPE) as process:
        lines_until(process, "Comics from stdin")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err == "llamagen-async batch: interrupted: nothing was sent\n"


@needs_posix
def test_a_terminal_sees_live_progress(server: dict[str, Any], tmp_path: Path) -> None:
    import pty

    (tmp_path / "stories.jsonl").write_text(TWO, encoding="utf-8")
    ours, theirs = pty.openpty()
    argv = ("batch", "stories.jsonl", "--json", *FAST)
    env = {**connection(server), "TERM": "xterm", "COLUMNS": "100"}
    with started(*argv, cwd=tmp_path, env=env, stderr=theirs) as process:
        os.close(theirs)
        seen = all_of(ours)
        assert process.stdout is not None
        assert len(json_lines(process.stdout.read())) == 2
        assert process.wait(30) == 0
    os.close(ours)
    for words in (b"0 of 2", b"running", b"per minute used", b"left"):
        assert words in seen


@needs_posix
def test_a_display_erases_no_line_that_comes_out_of_a_pipe(
    server: dict[str, Any], tmp_path: Path
) -> None:
    """With `| tee` the lines and the display would be on the same terminal."""
    import pty

    (tmp_path / "stories.jsonl").write_text(TWO, encoding="utf-8")
    ours, theirs = pty.openpty()
    env = {**connection(server), "TERM": "xterm", "COLUMNS": "100"}
    with started("batch", "stories.jsonl", *FAST, cwd=tmp_path, env=env, stderr=theirs) as process:
        os.close(theirs)
        assert all_of(ours) == b""
        assert process.stdout is not None
        assert "2 of 2 comics done" in process.stdout.read()
    os.close(ours)


def all_of(terminal: int) -> bytes:
    """Return all that is written to a terminal, until its other side is closed."""
    seen = b""
    try:
        while chunk := os.read(terminal, 4096):
            seen += chunk
    except OSError:
        pass
    return seen
