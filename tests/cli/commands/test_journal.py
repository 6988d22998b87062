"""The journal command: what a batch has done and cost; it only reads."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from pathlib import Path

import pytest

from llamagen_async.batch.journal.codec import AccountId
from llamagen_async.batch.journal.shared import SharedJournal
from llamagen_async.batch.journal.story import Story
from llamagen_async.cli.output import Output
from llamagen_async.cli.text import columns
from llamagen_async.errors import SubmissionUncertainError
from llamagen_async.models import BatchState
from tests.support.cli import Call, run, started
from tests.support.records import add_row, opened_journal

LOST = SubmissionUncertainError(None, "the connection was lost")
SENT = (BatchState.QUEUED,)


async def filled(path: Path) -> None:
    """Make a journal with a story of nearly each state."""
    async with opened_journal(path) as journal:
        done = await add_row(
            journal, Story.parse("A cat", "order-1"), 0, BatchState.SUCCEEDED, id="cmc_1"
        )
        await journal.change(
            done, BatchState.SUCCEEDED, origins=(done.state,), files=("cmc_1.png",), credits_=600
        )
        await add_row(journal, Story.parse("B"), 1, BatchState.RUNNING, id="cmc_2")
        await add_row(journal, Story.parse("=1+1"), 2, BatchState.UNCERTAIN, error=LOST)
        await add_row(journal, Story.parse("D\u202e\nE", "order-4", label="s.txt:4"), 3)


async def test_every_story_has_a_line_and_the_sums_stand_below(call: Call, tmp_path: Path) -> None:
    await filled(tmp_path / "comics" / "journal.db")
    done = call("journal")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["state", "credits", "id", "story"]
    assert lines[1].split() == ["done", "600", "cmc_1", "order-1", "A", "cat"]
    assert lines[2].split() == ["running", "-", "cmc_2", "B"]
    assert lines[3].split() == ["uncertain", "-", "-", "=1+1"]
    assert "the connection was lost" in lines[4]
    assert lines[5].endswith("order-4  D E")
    assert lines[6] == "4 stories: 1 not sent, 1 running, 1 done, 1 uncertain."
    assert lines[7] == (
        "Spent so far: 600 credits, and what 2 stories cost that has no known price."
    )


async def test_the_lines_fit_a_narrow_terminal(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(tmp_path / "journal.db")
    async with opened_journal(tmp_path / "journal.db") as journal:
        await add_row(journal, Story.parse("一只猫遇见了龙" * 9, "订单"), 4)
    monkeypatch.setattr(Output, "has_terminal", property(lambda self: True))
    monkeypatch.setenv("COLUMNS", "60")
    lines = call("journal", ".").stdout.splitlines()
    assert len(lines) > 9
    assert max(map(columns, lines)) <= 60
    assert any("订单  一只猫" in line for line in lines)


async def test_a_redraw_without_words_says_what_it_is(call: Call, tmp_path: Path) -> None:
    given = {"type": "update_panel", "id": "cmc_1", "panel": 0, "images": ["https://e.org/1.png"]}
    async with opened_journal(tmp_path / "journal.db") as journal:
        await add_row(journal, Story.parse(given), 0)
    assert call("journal", ".").stdout.splitlines()[1].endswith("redraw of panel 0")


async def test_the_stories_of_a_state_alone(call: Call, tmp_path: Path) -> None:
    await filled(tmp_path / "journal.db")
    done = call("journal", "journal.db", "--quiet", "--state", "running", "--state", "failed")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["running", "4", "Spent"]


async def test_machines_get_a_line_of_json_for_each_and_one_for_all(
    call: Call, tmp_path: Path
) -> None:
    await filled(tmp_path / "journal.db")
    *stories, sums = map(json.loads, call("journal", ".", "--json").stdout.splitlines())
    assert [one["state"] for one in stories] == ["succeeded", "running", "uncertain", "queued"]
    assert [one["id"] for one in stories] == ["cmc_1", "cmc_2", None, None]
    assert stories[0]["files"] == ["cmc_1.png"]
    assert stories[3]["request"] == {"prompt": "D\u202e\nE"}
    assert (sums["stories"], sums["credits"], sums["unpriced"]) == (4, 600, 2)
    assert sums["base_url"] == "http://127.0.0.1:9"


async def test_a_table_for_a_spreadsheet(call: Call, tmp_path: Path) -> None:
    """No cell is a formula, whatever a story begins with."""
    await filled(tmp_path / "journal.db")
    table = list(csv.DictReader(io.StringIO(call("journal", ".", "--format", "csv").stdout)))
    assert [one["credits"] for one in table] == ["600", "", "", ""]
    assert [one["prompt"] for one in table] == ["A cat", "B", "'=1+1", "D E"]
    assert table[0]["accepted_at"].endswith("Z")
    assert table[0]["files"] == "cmc_1.png"
    assert "lost" in table[2]["error"]


@pytest.mark.parametrize(
    ("prompt", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("\uff1d1", "'\uff1d1"),
        ("A cat;=1+1;  @SUM(1)", "A cat;'=1+1;  '@SUM(1)"),
        ("1-2; a = b", "1-2; a = b"),
    ],
)
async def test_no_cell_is_a_formula_whatever_parts_the_cells(
    prompt: str, cell: str, call: Call, tmp_path: Path
) -> None:
    """Excel parts them at `;` in many countries, LibreOffice at that and at commas."""
    async with opened_journal(tmp_path / "journal.db") as journal:
        files = ("cmc_1-p01-01.png", "cmc_1-p01-02.png")
        row = await add_row(journal, Story.parse(prompt, "k"), 0, BatchState.RUNNING, id="cmc_1")
        origins = (BatchState.RUNNING,)
        await journal.change(row, BatchState.SUCCEEDED, origins=origins, files=files)
    titles, line = call("journal", ".", "--format", "csv").stdout.splitlines()
    assert f',"{cell}",' in line
    assert line.endswith(',"cmc_1-p01-01.png; cmc_1-p01-02.png"')
    row_read = next(csv.reader([line]))
    assert len(row_read) == len(titles.split(","))


async def test_a_table_has_all_letters_whatever_the_locale_says(tmp_path: Path) -> None:
    """And a file has the mark without which Excel takes them for others.

    Most programs that read a pipe would take it for a part of the first column's name.
    """
    async with opened_journal(tmp_path / "journal.db") as journal:
        await add_row(journal, Story.parse("قطة ومخلوق 猫", "ü"), 0)
    for env in ({"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}):
        done = run("journal", ".", "--format", "csv", cwd=tmp_path, env=env)
        with (
            (tmp_path / "comics.csv").open("wb") as file,
            started("journal", ".", "--format", "csv", cwd=tmp_path, env=env, stdout=file) as one,
        ):
            assert one.wait() == 0
        kept = (tmp_path / "comics.csv").read_bytes().decode()
        assert kept == "\ufeff" + done.stdout
        (row,) = csv.DictReader(io.StringIO(done.stdout))
        assert (row["key"], row["prompt"]) == ("ü", "قطة ومخلوق 猫")


async def test_a_journal_is_read_while_others_work_with_it(call: Call, tmp_path: Path) -> None:
    """One that has an owner, and one that workers share; both go on."""
    async with opened_journal(tmp_path / "one" / "journal.db") as journal:
        row = await add_row(journal, Story.parse("A", "a"), 0)
        row = await journal.change(row, BatchState.SENDING, origins=SENT)
        assert "1 sending" in call("journal", "one").stdout
        await journal.change(row, BatchState.UNCERTAIN, origins=(BatchState.SENDING,))
    account = AccountId("http://127.0.0.1:9", "nobody")
    first = SharedJournal(tmp_path / "orders.db", account)
    second = SharedJournal(tmp_path / "orders.db", account)
    async with first, second:
        await add_row(first, Story.parse("A", "a"), 0)
        await add_row(second, Story.parse("B", "b"), 1)
        assert "2 stories: 2 not sent." in call("journal", "orders.db").stdout
        await add_row(first, Story.parse("C", "c"), 2)


async def test_a_long_journal_is_read_in_pages(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llamagen_async.cli.commands.journal._PAGE", 2)
    async with opened_journal(tmp_path / "journal.db") as journal:
        for number in range(5):
            await add_row(journal, Story.parse(f"s{number}", f"k{number}"), number)
    said = call("journal", ".").stdout
    assert [said.count(f"k{number}  s{number}") for number in range(5)] == [1] * 5


@pytest.mark.parametrize(
    ("content", "words", "status"),
    [
        (None, "there is no journal", 2),
        (b"", "there is nothing in it", 1),
        (b"no database" * 200, "file is not a database", 1),
    ],
)
def test_what_is_no_journal(
    call: Call, tmp_path: Path, content: bytes | None, words: str, status: int
) -> None:
    if content is not None:
        (tmp_path / "journal.db").write_bytes(content)
    done = call("journal", "journal.db")
    assert (done.returncode, done.stdout) == (status, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("request_", ["no JSON", "5", "null", '["a cat"]', "[" * 100_000])
async def test_a_damaged_row_is_told(call: Call, tmp_path: Path, request_: str) -> None:
    await filled(tmp_path / "journal.db")
    with sqlite3.connect(tmp_path / "journal.db") as connection:
        connection.execute("UPDATE job SET request = ? WHERE id = 2", (request_,))
    connection.close()
    done = call("journal", ".")
    assert done.returncode == 1
    assert "it is damaged" in done.stderr
    assert done.stderr.count("\n") == 1
