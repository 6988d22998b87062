"""The sandbox command, as people run it."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest

from tests.support.cli import FAST, SPEED, Call, lines_until, needs_posix, started


@needs_posix
def test_the_sandbox_prints_its_address_and_at_its_end_its_counts(
    tmp_path: Path, call: Call
) -> None:
    with started("sandbox", *FAST, cwd=tmp_path, env={"PYTHONUNBUFFERED": "1"}) as process:
        said = "".join(lines_until(process, "Ctrl-C"))
        url = said.split(" at ", 1)[1].split()[0]
        for words in (url, "sandbox-paid", "sandbox-demo", "sandbox-empty", f"--speed {SPEED}"):
            assert words in said
        argv = ("generate", "a cat", "--base-url", url, "--api-key", "sandbox-paid", *FAST)
        assert call(*argv, "--plan", "paid").returncode == 0
        variables = dict(re.findall(r"(LLAMAGEN_\w+)=(\S+)", said))
        assert len(variables) == 4
        assert call("generate", "a cat", env=variables).returncode == 0
        port = url.rpartition(":")[2].removesuffix("/v1")
        taken = call("sandbox", "--port", port)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert err == ""
    assert "0 refused with 429, 2 comics started" in out
    assert taken.returncode == 1
    assert taken.stderr.count("\n") == 1
    assert "Traceback" not in taken.stderr


def test_a_sandbox_that_is_started_anew_gives_out_other_ids(tmp_path: Path, call: Call) -> None:
    """Else journals and folders of the last one have them already, for other stories."""
    ids, seeds = [], []
    for seed in ([], [], ["--seed", "7"], ["--seed", "7"]):
        with started("sandbox", "--json", *seed, *FAST, cwd=tmp_path) as process:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            argv = ("generate", "a cat", "--no-wait", "--json", "--plan", "paid", *FAST)
            server = ("--base-url", said["url"], "--api-key", "sandbox-paid")
            ids.append(json.loads(call(*argv, *server).stdout)["id"])
            seeds.append(said["seed"])
    assert seeds[0] != seeds[1]
    assert ids[0] != ids[1]
    assert seeds[2:] == [7, 7]
    assert ids[2] == ids[3]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--webhook", "http://127.0.0.1:9/"], "--webhook-secret is needed"),
        (["--webhook", "backend", "--webhook-secret", "s"], "an http or https URL"),
        (["--fault", "event-lost:rate=0.1"], "no events without --webhook"),
        (["--fault", "eror"], "--fault: got 'eror', allowed is one of error, error-after, drop"),
        (["--fault", "error:418"], "allowed is as its value one of 400, 401"),
        (["--fault", "drop:rate=2"], "allowed is as its rate a share from 0 to 1"),
        (["--fault", "drop:often"], "--fault: got 'drop:often', allowed is a number as its value"),
    ],
)
def test_options_that_are_wrong(call: Call, options: list[str], words: str) -> None:
    """Refused before anything is started, with what is allowed; the secret is not repeated."""
    done = call("sandbox", *options)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@needs_posix
def test_the_sandbox_tells_at_its_end_what_became_of_events(tmp_path: Path, call: Call) -> None:
    webhook = ("--webhook", "http://127.0.0.1:9/", "--webhook-secret", "whsec_test")
    with started(
        "sandbox", *FAST, *webhook, cwd=tmp_path, env={"PYTHONUNBUFFERED": "1"}
    ) as process:
        said = "".join(lines_until(process, "Ctrl-C"))
        url = said.split(" at ", 1)[1].split()[0]
        argv = ("generate", "a cat", "--base-url", url, "--api-key", "sandbox-paid", *FAST)
        assert call(*argv, "--plan", "paid").returncode == 0
        variables = dict(re.findall(r"(LLAMAGEN_\w+)=(\S+)", said))
        assert len(variables) == 4
        assert call("generate", "a cat", env=variables).returncode == 0
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert "Webhook events: " in out
    assert "refused" in out
    assert "whsec_test" not in said + out + err
