"""A batch of anything from the command line, out of a table and out of lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import FAST, Call, connection, run

TABLE = """\
key,type,of,prompt,fix_panel_num,panel,size
b,continue,a,then rain,1,,
a,,,a cat,1,,512x768
c,redraw,b,a dog,,0,
v,animation,,a film,,,
"""


def results_in(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    return {one["key"]: one for one in map(json.loads, lines)}


def test_a_table_of_anything(server: dict[str, Any], tmp_path: Path, call: Call) -> None:
    (tmp_path / "s.csv").write_text(TABLE, encoding="utf-8-sig")
    argv = ("batch", "s.csv", "--out", "out", *FAST)
    done = run(*argv, cwd=tmp_path, env=connection(server))
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 comic, 1 continuation, 1 redraw, 1 animation, about" in done.stdout
    assert "4 of 4 stories done" in done.stdout
    results = results_in(tmp_path / "out")
    assert {key: one["type"] for key, one in results.items()} == {
        "a": "comic",
        "b": "continue",
        "c": "update_panel",
        "v": "animation",
    }
    assert results["b"]["request"] == {
        "type": "continue",
        "of": "a",
        "prompt": "then rain",
        "fixPanelNum": 1,
    }
    assert results["b"]["label"] == "s.csv:2"
    assert results["a"]["id"] == results["b"]["id"] == results["c"]["id"]
    assert len(results["v"]["files"]) == 1
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    for fact in ("continuation of a", "redraw of page 1, panel 1 of b", "animation"):
        assert f"<li>{fact}</li>" in page
    again = call(*argv, env=connection(server))
    assert "4 done, 0 running, 0 to send" in again.stdout
    assert "0 requests" in again.stdout
    # Without STORIES the journal is the input: the changes are changes there, too.
    journal = call("batch", "--out", "out", *FAST, env=connection(server))
    assert "4 of 4 stories done; 0 requests" in journal.stdout


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"type": "continue", "of": "zz", "prompt": "p"}', "s.jsonl:1: of: got 'zz'"),
        ('{"type": "continue", "prompt": "p"}', "s.jsonl:1: of: got None"),
    ],
)
def test_a_key_that_nobody_has_is_refused_with_its_line(
    line: str, said: str, server: dict[str, Any], tmp_path: Path, call: Call
) -> None:
    """Also if other lines are in order: nothing is sent."""
    (tmp_path / "s.jsonl").write_text(f'{line}\n{{"prompt": "a cat"}}\n', encoding="utf-8")
    argv = ("batch", "s.jsonl", "--out", "out", *FAST)
    done = call(*argv, env=connection(server))
    assert done.returncode == 2
    assert said in done.stderr
    assert "nothing was sent" in done.stderr


def test_a_refused_line_of_stdin_keeps_its_key_and_what_was_given(
    server: dict[str, Any], tmp_path: Path, call: Call
) -> None:
    lines = '{"key": "k", "prompt": "a", "size": 3}\nno json\n{"key": "n", "prompt": "a cat"}\n'
    argv = ("batch", "-", "--out", "out", *FAST)
    done = call(*argv, env=connection(server), stdin=lines.encode())
    assert done.returncode == 1
    results = results_in(tmp_path / "out")
    assert results["k"]["given"] == {"key": "k", "prompt": "a", "size": 3}
    assert "size" in results["k"]["error"]
    assert results["n"]["state"] == "succeeded"
    assert results["n"]["given"] is None


def test_a_table_may_come_through_a_pipe(server: dict[str, Any], tmp_path: Path) -> None:
    """The first row tells; each row as a prompt of its own would be paid for."""
    argv = ("batch", "-", "--out", "out", *FAST)
    done = run(*argv, cwd=tmp_path, env=connection(server), stdin=TABLE.encode())
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 of 4 stories done" in done.stdout
    assert results_in(tmp_path / "out")["b"]["label"] == "stdin:2"


def test_the_format_can_be_said(server: dict[str, Any], tmp_path: Path, call: Call) -> None:
    (tmp_path / "s.dat").write_text("prompt\na cat\n", encoding="utf-8")
    env = connection(server)
    argv = ("batch", "s.dat", "--dry-run", *FAST)
    unknown = call(*argv, env=env)
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "its format is unknown; allowed is .jsonl" in unknown.stderr
    assert "or say it with --format" in unknown.stderr
    said = call(*argv, "--format", "csv", env=env)
    assert "1 story: 0 done, 0 running, 1 to send." in said.stdout
    text = call(*argv, "--format", "txt", env=env)
    assert "2 stories: 0 done, 0 running, 2 to send." in text.stdout
    wrong = call(*argv, "--format", "xml", env=env)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "'xml' is not one of 'jsonl', 'csv', 'txt'" in wrong.stderr


def test_a_dry_run_counts_the_files_that_are_uploaded(
    server: dict[str, Any], tmp_path: Path, call: Call
) -> None:
    """Each content once, and none that was uploaded before; each takes a request."""
    for name in ("tom.png", "same.png"):
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "sea.png").write_bytes(b"\x89PNG\r\n\x1a\n sea")
    roles = [[{"name": "Tom", "image": name}] for name in ("tom.png", "same.png", "sea.png")]
    lines = [json.dumps({"prompt": f"s{n}", "comic_roles": one}) for n, one in enumerate(roles)]
    (tmp_path / "s.jsonl").write_text("\n".join(lines[:2]), encoding="utf-8")
    env = connection(server) | {"LLAMAGEN_QUOTA": "memory"}
    argv = ("batch", "s.jsonl", "--out", "out", *FAST)
    dry = call(*argv, "--dry-run", env=env)
    assert "2 comics, 1 file to upload, about" in dry.stdout
    real = call(*argv, env=env)
    assert "2 comics, 1 file to upload, about" in real.stdout
    (tmp_path / "s.jsonl").write_text("\n".join(lines), encoding="utf-8")
    more = call(*argv, "--dry-run", "--json", env=env)
    sums = json.loads(more.stdout.splitlines()[-1])
    assert (sums["to_send"], sums["uploads"]) == (1, 1)
