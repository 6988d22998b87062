"""`redraw`, and `batch --with`, as people run them."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import FAST, Call, connection, lines_until, needs_posix, seen, started

PNG = b"\x89PNG\r\n\x1a\n"
STORIES = '{"key": "order-1", "prompt": "A cat", "fixPanelNum": 2}\n{"prompt": "A dog"}\n'


@pytest.fixture
def out(server: dict[str, Any], tmp_path: Path, call: Call) -> Path:
    """The folder of a finished batch."""
    (tmp_path / "tom.png").write_bytes(PNG)
    (tmp_path / "cast.json").write_text(
        '{"preset": "neutral", "comicRoles": [{"name": "Tom", "image": "tom.png"}]}'
    )
    (tmp_path / "s.jsonl").write_text(STORIES)
    argv = ("batch", "s.jsonl", "--with", "cast.json", "--out", "out", *FAST)
    done = call(*argv, env=connection(server))
    assert (done.returncode, done.stderr) == (0, "")
    return tmp_path / "out"


def pictures(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("*.png")}


def test_a_panel_is_drawn_again_in_its_folder(
    server: dict[str, Any], out: Path, call: Call
) -> None:
    before, billed = pictures(out), seen(server)["total"]
    argv = ("redraw", "out", "order-1", "--panel", "1", "--caption", "It <smiles>", *FAST)
    done = call(*argv, env=connection(server))
    assert (done.returncode, done.stderr) == (0, "")
    id_ = done.stdout.split()[0]
    assert done.stdout.splitlines()[0] == f"{id_}  accepted"
    assert f"out/{id_}-p01-02.png is the new picture" in done.stdout
    assert f"the one before is out/{id_}-p01-02.1.png" in done.stdout
    after = pictures(out)
    assert after.pop(f"{id_}-p01-02.1.png") == before[f"{id_}-p01-02.png"]
    assert {name for name in after if after[name] != before[name]} == {f"{id_}-p01-02.png"}
    page = (out / "index.html").read_text("utf-8")
    assert "It &lt;smiles&gt;" in page
    assert "Comics from s.jsonl" in page
    assert "p01-02.1.png" not in page
    (line,) = [
        record
        for record in map(json.loads, (out / "results.jsonl").read_text("utf-8").splitlines())
        if record["key"] == "order-1"
    ]
    assert line["pages"][0][1]["caption"] == "It <smiles>"
    sent = seen(server)["total"]
    again = call(*argv, env=connection(server))
    assert again.returncode == 0
    assert "paid for before" in again.stdout
    assert "--again" in again.stdout
    assert seen(server)["total"] == sent > billed


def test_a_picture_names_its_panel(server: dict[str, Any], out: Path, call: Call) -> None:
    """The name of its file is enough; JSON has all that the lines say."""
    (name,) = [name for name in pictures(out) if "-p01-04" in name]
    argv = ("redraw", "out", f"out/{name}", "--image", "tom.png", "--json", *FAST)
    done = call(*argv, env=connection(server))
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert (said["page"], said["panel"], said["is_new"]) == (0, 3, True)
    assert (said["file"], said["kept"]) == (f"out/{name}", f"out/{name[:-4]}.1.png")


def test_a_batch_that_goes_on_leaves_redrawn_pictures_alone(
    server: dict[str, Any], out: Path, call: Call
) -> None:
    env = connection(server)
    call("redraw", "out", "order-1", "--panel", "0", "--prompt", "It smiles", *FAST, env=env)
    after, sent = pictures(out), seen(server)["total"]
    done = call("batch", "s.jsonl", "--with", "cast.json", "--out", "out", *FAST, env=env)
    assert done.returncode == 0
    assert (pictures(out), seen(server)["total"]) == (after, sent)


def test_an_edited_story_says_what_has_changed_and_what_it_costs(
    server: dict[str, Any], out: Path, tmp_path: Path, call: Call
) -> None:
    """And does nothing by itself; another cast is told of, too."""
    (tmp_path / "s.jsonl").write_text(STORIES.replace("A cat", "A cat in space"))
    (tmp_path / "cast.json").write_text('{"preset": "render"}')
    sent = seen(server)["total"]
    argv = ("batch", "s.jsonl", "--with", "cast.json", "--out", "out", *FAST)
    done = call(*argv, env=connection(server))
    assert done.returncode == 1
    assert "prompt: 'A cat' is now 'A cat in space'" in done.stdout
    assert "2 panels: about 300 credits (estimate)" in done.stdout
    assert "1 story would be different with this cast (preset: 'neutral'" in done.stdout
    assert seen(server)["total"] == sent


@needs_posix
def test_an_interrupted_redraw_is_waited_for_by_the_same_command(
    server: dict[str, Any], out: Path, tmp_path: Path, call: Call
) -> None:
    env, argv = connection(server), ("redraw", "out", "order-1", "--panel", "0", "--prompt", "x")
    before = pictures(out)
    with started(*argv, "--speed", "1", cwd=tmp_path, env=env) as process:
        lines_until(process, "accepted")
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "the same command again goes on with it" in complaint
    assert pictures(out) == before
    done = call(*argv, *FAST, env=env)
    assert done.returncode == 0
    assert "paid for before" in done.stdout
    assert len(pictures(out)) == len(before) + 1


WRONG = [
    (("out", "nobody", "--panel", "0", "--prompt", "x"), "KEY: got 'nobody'"),
    (("out", "order-1", "--panel", "2", "--prompt", "x"), "--panel: got 2, allowed is 0 to 1"),
    (("out", "order-1", "--panel", "0", "--page", "1", "--prompt", "x"), "--page: got 1"),
    (("out", "order-1", "--panel", "-1", "--prompt", "x"), "--panel: got -1"),
    (("out", "order-1", "--panel", "0"), "one of --prompt, --caption and --image"),
    (("out", "order-1", "--prompt", "x"), "--panel is missing"),
    (("out", "order-1", "--panel", "0", "--image", "no.png"), "images[0]: got 'no.png'"),
    (("nowhere", "order-1", "--panel", "0", "--prompt", "x"), "there is no journal"),
    (("out", "order-1", "--panel", "0", "--prompt", "x", "--journal", "no.db"), "no.db"),
]


def test_wrong_usage_is_one_line_and_nothing_is_sent(
    server: dict[str, Any], out: Path, call: Call
) -> None:
    before, files = seen(server)["total"], pictures(out)
    for argv, named in WRONG:
        done = call("redraw", *argv, *FAST, env=connection(server))
        assert (done.returncode, done.stdout) == (2, ""), argv
        assert done.stderr.count("\n") == 1
        assert named in done.stderr
    assert (seen(server)["total"], pictures(out)) == (before, files)


def test_a_cast_needs_stories(server: dict[str, Any], out: Path, call: Call) -> None:
    done = call("batch", "--with", "cast.json", "--out", "out", *FAST, env=connection(server))
    assert (done.returncode, done.stdout) == (2, "")
    assert "--with needs STORIES" in done.stderr


def test_a_folder_that_is_wrong_is_named_as_it_was_typed(
    server: dict[str, Any], out: Path, call: Call
) -> None:
    (out / "index.html").write_text("<p>mine</p>")
    argv = ("redraw", "out", "order-1", "--panel", "0", "--prompt", "x", *FAST)
    done = call(*argv, env=connection(server))
    assert done.returncode == 2
    assert done.stderr.startswith("llamagen-async redraw: DIR out: its index.html was not made by")
