"""Batches that go on with a journal: after Ctrl-C, after being killed, and never two at once."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from llamagen_async.sandbox import Durations, Fault, SandboxService
from tests.support.cli import (
    FAST,
    Call,
    connection,
    lines_until,
    needs_posix,
    sandbox_thread,
    started,
)

BATCH = ("batch", "stories.jsonl", *FAST)
PATIENT = ("--timeout", "90000")
"""Options to wait for hours: slots that a killed process had reserved come back after some real
seconds, and a busy machine needs some to start a process."""
GOES_ON = "llamagen-async batch --out comics --speed 300 --timeout 90000"
"""The command that is printed after one with these options."""


def stories(number: int, folder: Path, *, keys: bool = False) -> None:
    """Write so many stories to a file."""
    lines = [
        {"prompt": f"story {n} of a bear", "size": "512x768", "fix_panel_num": 1}
        | ({"key": f"order-{n}"} if keys else {})
        for n in range(number)
    ]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (folder / "stories.jsonl").write_text(text, encoding="utf-8")


def results(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "comics" / "results.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def accepted(service: SandboxService) -> int:
    """Return how many creates the server has taken."""
    return len(service.stats(0.0)["generations"])


def until_accepted(service: SandboxService, number: int) -> None:
    while accepted(service) < number:
        time.sleep(0.01)


@needs_posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_batch_that_was_stopped_is_finished_and_each_story_is_paid_once(
    number: signal.Signals, tmp_path: Path
) -> None:
    stories(20, tmp_path, keys=True)
    service = SandboxService(durations=Durations.constant(40))
    with sandbox_thread(service) as server:
        env = connection(server)
        with started(*BATCH, cwd=tmp_path, env=env) as process:
            until_accepted(service, 10)
            process.send_signal(number)
            _, err = process.communicate(timeout=120)
        if number is signal.SIGINT:
            assert process.returncode == 130
            assert "the same command again goes on where this stopped" in err
            assert len(results(tmp_path)) >= 10
        with started(*BATCH, *PATIENT, cwd=tmp_path, env=env) as process:
            out, _ = process.communicate(timeout=60)
        assert "going on with comics/journal.db: " in out
        states = Counter(one["state"] for one in results(tmp_path))
        # Killed before the answer came, some are uncertain; after an interrupt none is.
        lost = states["uncertain"] if number is signal.SIGKILL else 0
        assert states == Counter(succeeded=20 - lost, uncertain=lost)
        assert f"{20 - lost} of 20 comics done" in out
        assert process.returncode == (1 if lost else 0)
        done = [one for one in results(tmp_path) if one["state"] == "succeeded"]
        assert len({one["id"] for one in done}) == len(done) <= accepted(service) <= 20
        assert {one["key"] for one in results(tmp_path)} == {f"order-{n}" for n in range(20)}
        assert all(one["label"].startswith("stories.jsonl:") for one in done)
        before = service.stats(0.0)["keys"]["sandbox-paid"]["total"]
        with started("batch", *FAST, *PATIENT, cwd=tmp_path, env=env) as process:
            out, _ = process.communicate(timeout=120)
        assert f"{20 - lost} done, " in out
        assert "0 running, 0 to send" in out
        assert " done  " not in out  # what was done before is no news
        if not lost:
            assert process.returncode == 0
            assert service.stats(0.0)["keys"]["sandbox-paid"]["total"] == before


@needs_posix
def test_a_second_process_on_a_journal_is_told_the_first_ones_id(tmp_path: Path) -> None:
    stories(2, tmp_path)
    service = SandboxService(durations=Durations.constant(9000))
    with sandbox_thread(service) as server:
        env = connection(server)
        with started(*BATCH, *PATIENT, cwd=tmp_path, env=env) as first:
            until_accepted(service, 2)
            with started(*BATCH, cwd=tmp_path, env=env) as second:
                out, err = second.communicate(timeout=120)
            assert (second.returncode, out) == (1, "")
            assert err.count("\n") == 1
            assert f"process {first.pid} works with this journal" in err
            first.send_signal(signal.SIGINT)
            _, err = first.communicate(timeout=120)
        running = [one["id"] for one in results(tmp_path) if one["state"] == "running"]
        assert len(running) == 2
        assert all(f"llamagen-async status {id_} --out comics" in err for id_ in running)
        assert accepted(service) == 2


@needs_posix
def test_stories_of_stdin_are_finished_from_the_journal(tmp_path: Path) -> None:
    service = SandboxService(durations=Durations.constant(40))
    with sandbox_thread(service) as server:
        env = connection(server)
        argv = ("batch", "-", *FAST, *PATIENT)
        with started(*argv, cwd=tmp_path, env=env, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            process.stdin.write("a cat\na dog\na cat\n")
            process.stdin.flush()
            until_accepted(service, 3)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=120)
        assert f"{GOES_ON} goes on where this stopped" in err
        with started("batch", *FAST, *PATIENT, cwd=tmp_path, env=env) as process:
            out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert "3 of 3 comics done" in out
    assert [one["prompt"] for one in results(tmp_path)] == ["a cat", "a dog", "a cat"]
    assert accepted(service) == 3


def test_unsent_stories_of_stdin_stay_in_the_journal(
    server: dict[str, Any], tmp_path: Path, call: Call
) -> None:
    env = connection(server, "sandbox-empty")
    lines = "".join(f"story {n}\n" for n in range(150))  # more than a batch reads ahead
    done = call("batch", "-", *FAST, *PATIENT, env=env, stdin=lines.encode())
    assert done.returncode == 1
    assert "0 of 150 comics done, 150 not sent; " in done.stdout
    assert f"\nThe rest: {GOES_ON} goes on" in done.stdout
    assert " not sent  " not in done.stdout  # no line for each of a million
    assert (done.stdout + done.stderr).count("there are not enough credits") == 1
    assert "(150 of 150 stories)" in done.stderr
    again = call("batch", *FAST, *PATIENT, env=env)
    assert "0 done, 0 running, 150 to send" in again.stdout
    assert len(results(tmp_path)) == 150


def test_an_uncertain_story_is_reported_and_sent_again_only_on_request(
    tmp_path: Path, call: Call
) -> None:
    stories(1, tmp_path)
    service = SandboxService(faults=[Fault("drop", on="create")], durations=Durations.constant(20))
    with sandbox_thread(service) as server:
        env = connection(server)
        first = call(*BATCH, env=env)
        assert first.returncode == 1
        assert "stories.jsonl:1 (story 0 of a bear), sent at 2" in first.stderr
        again = "llamagen-async batch --out comics --speed 300 --resend-uncertain"
        assert f"to send it again, which may be paid twice: {again}" in first.stderr
        second = call(*BATCH, env=env)
        assert "0 done, 1 uncertain, 0 running, 0 to send" in second.stdout
        assert second.returncode == 1
        assert second.stderr.count("\n") == 2
        assert "the server has counted " in second.stderr
        assert accepted(service) == 1
        third = call("batch", "--resend-uncertain", *FAST, *PATIENT, env=env)
        assert "1 to send" in third.stdout
        assert accepted(service) == 2


def test_results_of_another_journal_stay_in_the_file(
    server: dict[str, Any], tmp_path: Path, call: Call
) -> None:
    env = connection(server)
    stories(1, tmp_path)
    assert call(*BATCH, env=env).returncode == 0
    (tmp_path / "other.txt").write_text("a fox\n", encoding="utf-8")
    assert call("batch", "other.txt", "--journal", "b.db", *FAST, *PATIENT, env=env).returncode == 0
    assert {one["prompt"] for one in results(tmp_path)} == {"a fox", "story 0 of a bear"}
    assert (tmp_path / "b.db").is_file()


def test_a_file_that_changes_while_it_is_read_stops_the_batch(tmp_path: Path) -> None:
    stories(200, tmp_path)
    service = SandboxService(durations=Durations.constant(20))
    with sandbox_thread(service) as server:
        with started(*BATCH, cwd=tmp_path, env=connection(server)) as process:
            lines_until(process, "Times are")
            with (tmp_path / "stories.jsonl").open("a", encoding="utf-8") as file:
                file.write('{"prompt": "one m')
            _, err = process.communicate(timeout=120)
        assert process.returncode == 1
        assert "stories.jsonl was changed while it was read; the same command again" in err
        assert len(results(tmp_path)) >= accepted(service)


def foreign(path: Path) -> None:
    """Make a database of another program."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE a (b)")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.mkdir(), "name a file, not a folder"),
        (lambda path: path.write_text("no database " * 100), "not a database"),
        (foreign, "another program"),
    ],
)
def test_a_journal_that_can_not_be_used_is_one_line(
    make: Any, said: str, tmp_path: Path, call: Call
) -> None:
    stories(1, tmp_path)
    make(tmp_path / "j.db")
    env = {"LLAMAGEN_API_KEY": "lg-test"}
    done = call(*BATCH, "--journal", "j.db", "--base-url", "http://127.0.0.1:9", env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert not (tmp_path / "comics" / "results.jsonl").exists()


def test_a_journal_of_another_server_is_refused(
    server: dict[str, Any], tmp_path: Path, call: Call
) -> None:
    stories(1, tmp_path)
    assert call(*BATCH, env=connection(server)).returncode == 0
    done = call(*BATCH, "--base-url", "http://127.0.0.1:9", env=connection(server))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert server["url"] in done.stderr
    assert len(results(tmp_path)) == 1


@pytest.mark.parametrize("lost", ["empty", "gone", "older"])
def test_a_journal_that_was_lost_is_not_taken_for_a_new_one(
    server: dict[str, Any], tmp_path: Path, call: Call, lost: str
) -> None:
    """Nothing is paid again without --start-over; with it the old ids stay in the results."""
    env = connection(server)
    stories(1, tmp_path)
    assert call(*BATCH, env=env).returncode == 0
    journal = tmp_path / "comics" / "journal.db"
    older = journal.read_bytes()
    stories(2, tmp_path)
    assert call(*BATCH, env=env).returncode == 0
    paid = {one["id"] for one in results(tmp_path)}
    assert len(paid) == 2
    if lost == "older":
        journal.write_bytes(older)
    elif lost == "empty":
        journal.write_bytes(b"")
    else:
        journal.unlink()
    for _ in range(2):
        stopped = call(*BATCH, env=env)
        assert (stopped.returncode, stopped.stdout) == (1, "")
        assert stopped.stderr.count("\n") == 1
        assert "is it the right journal?" in stopped.stderr
        assert "--start-over" in stopped.stderr
        assert {one["id"] for one in results(tmp_path)} == paid
        files = sorted(journal.parent.iterdir())
        dry = call(*BATCH, "--dry-run", env=env)
        assert (dry.returncode, dry.stdout, dry.stderr) == (1, "", stopped.stderr)
        assert sorted(journal.parent.iterdir()) == files
    assert call(*BATCH, "--dry-run", "--start-over", env=env).returncode == 0
    again = call(*BATCH, "--start-over", env=env)
    assert again.returncode == 0, again.stderr
    found = [one["id"] for one in results(tmp_path)]
    assert paid < set(found)
    assert len(found) == len(set(found))
    done = call(*BATCH, env=env)
    assert (done.returncode, done.stderr) == (0, "")
