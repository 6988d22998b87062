"""The sandbox command, as people run it."""

from __future__ import annotations

import signal
from pathlib import Path

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
        port = url.rpartition(":")[2].removesuffix("/v1")
        taken = call("sandbox", "--port", port)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=5)
    assert process.returncode == 0
    assert err == ""
    assert "0 refused with 429, 1 comic started" in out
    assert taken.returncode == 1
    assert taken.stderr.count("\n") == 1
    assert "Traceback" not in taken.stderr
