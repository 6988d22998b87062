"""A picture that is replaced is kept beside the new one, and never written over."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from llamagen_async.downloads.part_file import PartFile
from llamagen_async.downloads.versions import keep_versions, older_versions, pictures_of
from llamagen_async.transport import HTTPAssets
from tests.support.assets import OTHER, PAST, PNG, fetch, files, picture
from tests.support.rawserver import Received, raw_server

NAME = "c1-p01-03"


def put(folder: Path, content: bytes, extension: str = ".png") -> Path:
    """Have a new picture take the place of the one that is there."""
    part = PartFile(folder, NAME)
    part.append(content)
    return part.finish(extension, keeps_old=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_each_replaced_picture_is_kept_under_the_next_number(tmp_path: Path) -> None:
    """Others of the folder stay as they are, also those whose names look alike."""
    others = {"c1-p01-04.png": b"4", "c1-p01-03.x.png": b"x", "c11-p01-03.1.png": b"y"}
    for name, content in others.items():
        (tmp_path / name).write_bytes(content)
    for content in (b"first", b"second", b"third"):
        assert put(tmp_path, content) == tmp_path / f"{NAME}.png"
    assert contents(tmp_path) == {
        **others,
        f"{NAME}.1.png": b"first",
        f"{NAME}.2.png": b"second",
        f"{NAME}.png": b"third",
    }
    assert [path.name for path in older_versions(tmp_path / f"{NAME}.png")] == [
        f"{NAME}.1.png",
        f"{NAME}.2.png",
    ]


def test_the_same_picture_again_changes_nothing(tmp_path: Path) -> None:
    put(tmp_path, b"first")
    before = (tmp_path / f"{NAME}.png").stat()
    assert put(tmp_path, b"first") == tmp_path / f"{NAME}.png"
    assert files(tmp_path) == [f"{NAME}.png"]
    assert (tmp_path / f"{NAME}.png").stat().st_ino == before.st_ino


def test_a_picture_of_another_kind_takes_its_place(tmp_path: Path) -> None:
    put(tmp_path, b"first")
    put(tmp_path, b"second", ".webp")
    put(tmp_path, b"third", ".png")
    assert contents(tmp_path) == {
        f"{NAME}.1.png": b"first",
        f"{NAME}.2.webp": b"second",
        f"{NAME}.png": b"third",
    }


def test_what_is_written_over_gives_up_its_name_whatever_its_kind_is(tmp_path: Path) -> None:
    """The old picture was taken for the panel's by who asked what is there."""
    for extension, content in ((".jpg", b"first"), (".bin", b"second"), (".png", b"third")):
        part = PartFile(tmp_path, NAME)
        part.append(content)
        picture = part.finish(extension)
        assert pictures_of(tmp_path, [NAME]) == {NAME: picture}
    (tmp_path / f"{NAME}.txt").write_bytes(b"mine")
    put(tmp_path, b"third")
    assert contents(tmp_path) == {
        f"{NAME}.1.jpg": b"first",
        f"{NAME}.2.bin": b"second",
        f"{NAME}.png": b"third",
        f"{NAME}.txt": b"mine",
    }


def test_an_older_version_is_never_written_over(tmp_path: Path) -> None:
    """Whatever has taken its name: another kind, a link that leads nowhere."""
    put(tmp_path, b"first")
    (tmp_path / f"{NAME}.1.jpg").write_bytes(b"mine")
    (tmp_path / f"{NAME}.2.png").symlink_to("nowhere")
    put(tmp_path, b"second")
    assert (tmp_path / f"{NAME}.3.png").read_bytes() == b"first"
    assert (tmp_path / f"{NAME}.1.jpg").read_bytes() == b"mine"


@pytest.mark.parametrize("step", ["kept", "replaced"])
def test_killed_at_any_step_and_done_again_each_picture_is_kept_once(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two steps there is no moment without a picture under its name."""

    def killed(*_: object) -> None:
        assert (tmp_path / f"{NAME}.png").read_bytes() == b"first"
        raise KeyboardInterrupt

    put(tmp_path, b"first")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            put(tmp_path, b"second")
    if step == "replaced":
        put(tmp_path, b"second")
    put(tmp_path, b"second")
    whole = {name: one for name, one in contents(tmp_path).items() if not name.endswith(".part")}
    assert whole == {f"{NAME}.1.png": b"first", f"{NAME}.png": b"second"}


def test_a_disk_without_links_keeps_it_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    put(tmp_path, b"first")
    (tmp_path / f"{NAME}.1.png").symlink_to("nowhere")  # which a new name would write over
    monkeypatch.setattr(os, "link", refused)
    put(tmp_path, b"second")
    assert (tmp_path / f"{NAME}.1.png").is_symlink()
    assert (tmp_path / f"{NAME}.2.png").read_bytes() == b"first"
    assert (tmp_path / f"{NAME}.png").read_bytes() == b"second"


def test_what_cant_be_kept_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    put(tmp_path, b"first")
    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(OSError, match="No space left"):
        put(tmp_path, b"second")
    assert (tmp_path / f"{NAME}.png").read_bytes() == b"first"


def test_nothing_is_kept_of_nothing(tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.write_bytes(b"first")
    assert keep_versions(new, tmp_path / "c1.png")
    assert older_versions(tmp_path / "none" / "c1.png") == []


async def test_a_redrawn_picture_is_fetched_whatever_its_date_says(
    source: HTTPAssets, tmp_path: Path
) -> None:
    """Name, length and date may be the same, and it is another picture."""
    served = [PNG, OTHER]

    async def serve(received: Received) -> None:
        await received.reply(picture(served[0], headers={"Last-Modified": PAST}))
        served.pop(0)

    async with raw_server(serve) as server:
        await fetch(source, f"{server.url}/x", tmp_path)
        path = await fetch(source, f"{server.url}/x", tmp_path, keeps_old=True)
    assert path.read_bytes() == OTHER
    assert older_versions(path)[0].read_bytes() == PNG
