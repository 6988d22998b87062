"""One word for a thing: the glossary of CONTRIBUTING.md, and the words that are not used."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent
MOST_WORDS = 30
INSTEAD = {
    "bar": "poll threshold",
    "chooser": "policy",
    "clairvoyant": "best possible",
    "courier": "pipeline",
    "dear": "at a high slot price",
    "feeder": "prefetcher",
    "hand": "comics",
    "inspection": "poll plan",
    "lane": "loop",
    "look": "status check, poll",
    "note": "saved forecasts",
    "notekeeper": "forecast store",
    "patience": "timeout, admission",
    "scout": "exploration",
    "stock": "journal summary",
    "studio": "endpoints",
    "trouble": "error",
    "unasked": "external, leftover",
    "watches": "poll set",
}
"""Words that stood for one of this project's things, and what is said instead."""
EXCEPTIONS = {
    "__notes__": "Python's own name, of an exception",
    "add_note": "Python's own name, of an exception",
    "CLOSING_NOTE": "a sentence that is added to an exception by add_note",
    "INSTEAD": "this list",
}
PICTURES = "pictures"
"""The folder of the sandbox in which a figure has hands and a look."""


def glossary() -> list[tuple[str, str]]:
    """Return the words of CONTRIBUTING.md and their meanings."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    _, _, section = text.partition("\n## Glossary\n")
    table, _, _ = section.partition("\n## ")
    rows = re.findall(r"^\| (.+) \| (.+) \|$", table, flags=re.MULTILINE)
    return [(word, meaning) for word, meaning in rows if word != "word"]


def sources(*folders: str) -> dict[str, str]:
    """Return the text of all Python files in some folders, by their path."""
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


def names(source: str) -> Iterator[tuple[str, int]]:
    """Yield the names that a file defines, and the lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno


def old_words(name: str) -> list[str]:
    """Return the words of a name that are not used, also in their plural."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    return [word for word in words if {word, word.removesuffix("s")} & INSTEAD.keys()]


def test_the_glossary_is_short_and_defines_each_word_once() -> None:
    words = [word for word, _ in glossary()]
    assert 0 < len(words) <= MOST_WORDS
    assert len(set(words)) == len(words)
    assert set(words) & INSTEAD.keys() == set()


def test_each_word_of_the_glossary_is_used() -> None:
    """A word that the package does not use needs no definition."""
    said = "\n".join(sources("llamagen_async").values()).lower().replace("_", " ")
    assert [word for word, _ in glossary() if word.lower() not in said] == []


def test_no_name_has_a_word_that_is_not_used() -> None:
    """Names of classes, functions, arguments, variables and files use the glossary's words."""
    found = [
        f"{path}:{line}: {name} (say: {INSTEAD.get(word) or INSTEAD[word.removesuffix('s')]})"
        for path, source in sources("llamagen_async", "tests", "benchmarks").items()
        if PICTURES not in path
        for name, line in [*names(source), (Path(path).stem, 0)]
        if name not in EXCEPTIONS
        for word in old_words(name)
    ]
    assert not found, "\n".join(found)
