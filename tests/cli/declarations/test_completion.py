"""Words that a shell is offered: commands, files, and the keys and ids of a batch's journal."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from llamagen_async.batch.journal.story import Story
from llamagen_async.cli.app import cli
from llamagen_async.cli.declarations.bash import Bash
from llamagen_async.cli.declarations.fish import Fish
from llamagen_async.models import BatchState
from tests.support.records import add_row, opened_journal

SHELL = BashComplete(cli, {}, "llamagen-async", "_LLAMAGEN_ASYNC_COMPLETE")


def offered(*typed: str) -> list[str]:
    """Return what the last of these words is completed to."""
    return [item.value for item in SHELL.get_completions(list(typed[:-1]), typed[-1])]


def kind(*typed: str) -> str:
    """Return whether the shell itself completes the last word as a file or a folder."""
    (item,) = SHELL.get_completions(list(typed[:-1]), typed[-1])
    return item.type


@pytest.fixture
async def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a batch has run."""
    monkeypatch.chdir(tmp_path)
    async with opened_journal(tmp_path / "comics" / "journal.db") as journal:
        await add_row(journal, Story.parse("a", "order-1"), 0, BatchState.SUCCEEDED, id="cmc_1")
        await add_row(journal, Story.parse("b", "order-2"), 1, BatchState.RUNNING, id="cmc_2")
        await add_row(journal, Story.parse("c"), 2)
    return tmp_path


def test_commands_and_options_are_completed() -> None:
    assert offered("ba") == ["batch"]
    assert offered("journal", "--st") == ["--state"]
    assert offered("journal", "--state", "fa") == ["failed"]


@pytest.mark.parametrize("line", [None, ""])
def test_a_script_of_another_version_gets_an_answer(
    line: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Click's own script, which may have been saved to a file, hands over no line."""
    monkeypatch.delenv("COMP_LINE", raising=False)
    if line is not None:
        monkeypatch.setenv("COMP_LINE", line)
    shell = Bash(cli, {}, "llamagen-async", "_LLAMAGEN_ASYNC_COMPLETE")
    assert "plain,batch" in shell.complete().splitlines()


@pytest.mark.parametrize(
    ("typed", "type_"),
    [
        (("batch", "sto"), "file"),
        (("batch", "--with", "c"), "file"),
        (("batch", "--journal", "j"), "file"),
        (("batch", "--out", "c"), "dir"),
        (("redraw", "c"), "dir"),
        (("export", "c"), "dir"),
        (("export", "c", "--out", "b"), "dir"),
        (("export", "c", "--journal", "j"), "file"),
        (("journal", "c"), "file"),
        (("upload", "c"), "file"),
        (("animate", "x", "--image", "c"), "file"),
        (("generate", "x", "--out", "c"), "dir"),
    ],
)
def test_files_and_folders_are_completed_by_the_shell(typed: tuple[str, ...], type_: str) -> None:
    assert kind(*typed) == type_


def test_ids_and_keys_of_the_journal_are_completed(folder: Path) -> None:
    """The newest first; a name that was made of a story's content is nobody's word."""
    assert offered("status", "") == ["cmc_2", "cmc_1"]
    assert offered("update-panel", "cmc_1") == ["cmc_1"]
    assert sorted(offered("redraw", "comics", "")) == ["cmc_1", "cmc_2", "order-1", "order-2"]
    assert offered("redraw", "comics/", "order-2") == ["order-2"]
    assert offered("export", "--out", "books", "comics/", "cmc_1", "order-2") == ["order-2"]
    assert offered("continue", "cmc_%") == []


async def test_a_name_of_several_lines_is_offered_to_no_shell(folder: Path) -> None:
    """Each line would be taken for a word, and in zsh all words after it for others."""
    async with opened_journal(folder / "comics" / "journal.db") as journal:
        await add_row(journal, Story.parse("d", "order\n3"), 3)
        await add_row(journal, Story.parse("e", "order\t4"), 4)
    assert sorted(offered("redraw", "comics", "order")) == ["order-1", "order-2"]


def test_fish_takes_an_answer_apart_at_its_first_comma() -> None:
    """A key may have a comma, and so may the help of an option."""
    script = Fish(cli, {}, "llamagen-async", "_LLAMAGEN_ASYNC_COMPLETE").source()
    assert script.count("string split") == script.count('string split --max 1 "," $completion')


def test_another_folder_or_journal_is_looked_into(folder: Path) -> None:
    (folder / "comics").rename(folder / "elsewhere")
    assert offered("status", "") == []
    assert offered("status", "--out", "elsewhere", "") == ["cmc_2", "cmc_1"]
    journal = ("--journal", "elsewhere/journal.db")
    assert offered("redraw", *journal, "comics", "order-1") == ["order-1"]


def test_what_is_no_journal_offers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "comics").write_bytes(b"no database" * 100)
    assert offered("status", "") == []


KEYS = (
    "my order",
    "a:b",
    "star*",
    "it's",
    "$(touch ran)",
    "com,ma",
    "\N{LATIN SMALL LETTER A WITH DIAERESIS}x",
)


@pytest.mark.once
@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("line", "answers"),
    [
        ("llamagen-async ba", ["batch"]),
        ("llamagen-async redraw comics my", ["my\\ order"]),
        ("llamagen-async redraw 'comics' 'my o", ["my order"]),
        ("llamagen-async redraw comics a:", ["b"]),
        ("llamagen-async redraw comics it", ["it\\'s"]),
        ("llamagen-async redraw comics '$(", ["$(touch ran)"]),
        (
            "llamagen-async redraw comics \N{LATIN SMALL LETTER A WITH DIAERESIS}",
            ["\N{LATIN SMALL LETTER A WITH DIAERESIS}x"],
        ),
    ],
)
async def test_bash_gets_words_that_it_takes_for_what_they_are(
    line: str, answers: list[str], folder: Path
) -> None:
    """The function that bash calls at Tab, called in bash with what it sets for that."""
    async with opened_journal(folder / "comics" / "journal.db") as journal:
        for number, key in enumerate(KEYS, start=10):
            await add_row(journal, Story.parse(f"{number}", key), number)
    program = folder / "bin" / "llamagen-async"
    program.parent.mkdir()
    call = "from llamagen_async.cli import main; main()"
    program.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(call)}\n")
    program.chmod(0o755)
    typing = """
        compopt() { :; }
        eval "$(_LLAMAGEN_ASYNC_COMPLETE=bash_source llamagen-async)"
        COMP_LINE=$1 COMP_POINT=${#1}
        _llamagen_async_completion llamagen-async
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    shell = await asyncio.create_subprocess_exec(
        *("bash", "--norc", "-c", typing, "bash", line),
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    stdout, stderr = await shell.communicate()
    assert (stderr.decode(), stdout.decode().splitlines()) == ("", answers)
