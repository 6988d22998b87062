"""The tables, plots and numbers of README and documentation are those of the committed results."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[1]
PAGES: Final = [
    path
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if "_build" not in path.parts
]
NUMBER: Final = re.compile(
    r"(?<![\w.#/-])(\d[\d,]*(?:\.\d+)?)[- \N{NO-BREAK SPACE}]?"
    r"(?=((?:[mnuµμ]s|(?:milli|micro)?seconds?|s|min|[KMGk]i?B|(?:kilo|mega)?bytes|%|per ?cent"
    r"|times|x|fold|requests?|checks?|deliveries|of \d+)(?!\w)|/\d))"
)
"""A number with a unit that a measurement could have."""
STATED: Final = {
    "README.md": {"10 requests"},
    "docs/cast.md": {"10 MB"},
    "docs/checks.md": {"5 s"},
    "docs/doctor.md": {"300 s", "200 seconds"},
    "docs/limits.md": {"4 requests"},
    "docs/money.md": {"15 requests"},
    "docs/sandbox.md": {"10 requests", "20 s", "30 s", "60 s"},
    "docs/tenants.md": {"2 KB"},
    "docs/web.md": {"2 s", "5 s", "10 s", "15 s", "1 MB", "5 MB"},
    "docs/webhooks.md": {"5 s", "30 s", "2 min", "10 min", "2 MB"},
    "docs/workers.md": {"5 s", "20 s"},
}
"""Numbers that nobody has measured: settings, limits of the API, bounds that tests hold."""


def module() -> Any:
    """Load the program that writes the tables; `docs` is no package."""
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs/tables.py")
    assert spec is not None
    assert spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        spec.loader.exec_module(tables)
    finally:
        sys.path.pop(0)
    return tables


TABLES = module()


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def typed_numbers(text: str) -> set[str]:
    """Return the numbers of a page that no program writes there; code is left out."""
    for written in (
        TABLES.PLACE,
        TABLES.PLOT,
        re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL),
    ):
        text = written.sub("", text)
    text = re.sub(r"`[^`\n]*`", "``", text)
    return {f"{found[1]} {found[2]}" for found in NUMBER.finditer(text)}


@pytest.mark.parametrize("document", TABLES.DOCUMENTS, ids=name_of)
def test_a_document_says_what_the_results_say(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert text == TABLES.with_tables(document), "run: python docs/tables.py"


def test_documents_with_tables_are_found() -> None:
    found = {name_of(path) for path in TABLES.DOCUMENTS}
    assert found >= {
        "README.md",
        "docs/reference/errors.md",
        "docs/checks.md",
        "docs/benchmarks.md",
    }


@pytest.mark.parametrize("name", TABLES.DRAWN)
def test_a_plot_shows_the_results_and_says_so_in_words(name: str) -> None:
    text = (TABLES.PLOTS / f"{name}.svg").read_text(encoding="utf-8")
    assert text == TABLES.DRAWN[name](), "run: python docs/tables.py"
    drawn = ElementTree.fromstring(text)
    title, description = (
        drawn.findtext(f"{{http://www.w3.org/2000/svg}}{tag}") for tag in ("title", "desc")
    )
    assert title
    assert description
    assert re.search(r"\d", description)
    assert "prefers-color-scheme:dark" in text
    shown = [path for path in TABLES.DOCUMENTS if f"plots/{name}.svg)" in path.read_text("utf-8")]
    assert shown, "no page shows it"


def test_there_are_no_plots_that_nothing_draws() -> None:
    assert {path.stem for path in TABLES.PLOTS.glob("*.svg")} == set(TABLES.DRAWN)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_measured_number_is_typed(page: Path) -> None:
    """Measured numbers stand between marks; others that have a unit are listed above."""
    found = typed_numbers(page.read_text(encoding="utf-8"))
    assert found == STATED.get(name_of(page), set()), (
        "measured: let docs/tables.py write it; a setting or a bound: list it in STATED"
    )


@pytest.mark.parametrize(
    "words",
    [
        "in 44 s",
        "12/12",
        "28 requests",
        "11 of 12 comics",
        "0.9 KB each",
        "1.5 ms",
        "3 times as fast",
    ],
)
def test_numbers_as_measurements_have_them_are_seen(words: str) -> None:
    assert typed_numbers(f"The demo ends {words}, as measured.")


@pytest.mark.parametrize("path", sorted(TABLES.RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_results_name_the_machine_and_nothing_else_of_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    results = json.loads(text)
    assert set(results["machine"]) == {"cpu", "cores", "python", "os"}
    assert all(results["machine"].values())
    assert isinstance(results["quick"], bool)
    assert not re.search(r"[\"\s](?:/|[A-Z]:\\)\w", text), "a path"


def test_an_error_without_its_sections_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TABLES.errors.JournalError, "__doc__", "No sections.")
    with pytest.raises(AssertionError, match="JournalError does not say: Spent"):
        TABLES.error_table()


def test_what_is_public_below_the_root_is_in_the_table_of_errors() -> None:
    import llamagen_async

    public = [getattr(llamagen_async, name) for name in llamagen_async.__all__]
    expected = {
        one
        for one in public
        if isinstance(one, type)
        and issubclass(one, llamagen_async.LlamaGenError)
        and one is not llamagen_async.LlamaGenError
    }
    assert set(TABLES.error_classes()) == expected
