"""`generate` and `status`, as people run them."""

from __future__ import annotations

import json
import signal
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
    sandbox_thread,
    started,
)


def test_generate_and_status(server: dict[str, Any], tmp_path: Path, call: Call) -> None:
    env = connection(server)
    argv = ("generate", "a dragon", "--pages", "1", "--panels-per-page", "2", "--out", "d")
    made = call(*argv, "--size", "512x768", *FAST, env=env)
    assert (made.returncode, made.stderr) == (0, "")
    assert "SUCCEEDED" in made.stdout
    assert len(list((tmp_path / "d").glob("*.png"))) == 3
    begun = call("generate", "an owl", "--panels", "1", "--no-wait", "--json", *FAST, env=env)
    comic = json.loads(begun.stdout)
    assert comic["status"] == "PENDING"
    status = ("status", comic["id"], "--wait", "--out", "later", "--json", *FAST)
    later = call(*status, env=env)
    assert (later.returncode, later.stderr) == (0, "")
    assert all((tmp_path / name).is_file() for name in json.loads(later.stdout)["files"])
    nobody = call("status", "cmc_none", *FAST, env=env)
    assert nobody.returncode == 1
    assert nobody.stderr.count("\n") == 1


@needs_posix
def test_ctrl_c_while_one_comic_is_drawn_says_its_id(tmp_path: Path) -> None:
    slow = SandboxService(durations=Durations.constant(9000.0))
    with (
        sandbox_thread(slow) as server,
        started("generate", "a cat", *FAST, cwd=tmp_path, env=connection(server)) as process,
    ):
        id_ = lines_until(process, "accepted")[-1].split()[0]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err == (
        "llamagen-async generate: interrupted; it goes on at the server: "
        f"llamagen-async status {id_} --speed 300\n"
    )


@needs_posix
def test_ctrl_c_while_the_create_is_on_its_way_waits_for_the_id(tmp_path: Path) -> None:
    service = SandboxService()
    with (
        sandbox_thread(service, latency=(150.0, 150.0)) as server,
        started("generate", "a cat", *FAST, cwd=tmp_path, env=connection(server)) as process,
    ):
        while not service.stats(0.0)["generations"]:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    assert "already accepted: create cmc_" in err.splitlines()[0]
    assert "the id stands above" in err.splitlines()[1]
