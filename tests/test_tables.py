"""The tables of the README and of the documentation say what was measured and what errors mean."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def module() -> Any:
    """Load the program that writes the tables; `docs` is no package."""
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs/tables.py")
    assert spec is not None
    assert spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    return tables


TABLES = module()


@pytest.mark.parametrize("document", TABLES.DOCUMENTS, ids=lambda document: document.name)
def test_a_document_says_what_the_results_say(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert TABLES.PLACE.search(text), "it has no place for a table"
    assert text == TABLES.with_tables(text), "run: python docs/tables.py"


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
