"""The tables of the README and of the documentation, from what they are about.

    python docs/tables.py

writes them where the documents mark their places: the errors from the docstrings, the numbers from
what the benchmarks have measured (`benchmarks/results`). `nox -s bench` ends with it, and
`tests/test_tables.py` fails if a document says something else.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from llamagen_async import errors
from llamagen_async.validation import LlamaGenError

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = ROOT / "benchmarks/results"
DOCUMENTS: Final = [ROOT / "README.md", ROOT / "docs/reference/errors.md", ROOT / "docs/checks.md"]
PLACE: Final = re.compile(r"(<!-- table: (\w+) -->\n)(.*?)(<!-- end -->\n)", flags=re.DOTALL)


def error_classes() -> list[type[LlamaGenError]]:
    """Return all errors below the root, in the order of `llamagen_async.errors`."""
    found = [one for one in vars(errors).values() if inspect.isclass(one)]
    ours = [one for one in found if issubclass(one, LlamaGenError) and one is not LlamaGenError]
    return sorted(
        ours,
        key=lambda one: (one.__name__ != "InvalidRequestError", inspect.getsourcelines(one)[1]),
    )


def error_table() -> str:
    """Return what each error means; a docstring without its two sections is a mistake."""
    rows: list[list[str]] = []
    for error in error_classes():
        text = inspect.getdoc(error) or ""
        cells = [f"`{error.__name__}`", " ".join(text.partition("\n\n")[0].split())]
        for section in ("Spent", "What to do"):
            found = re.search(rf"^{section}:\n((?:    .*(?:\n|$))+)", text, flags=re.MULTILINE)
            assert found, f"the docstring of {error.__name__} does not say: {section}"
            cells.append(" ".join(found[1].split()))
        rows.append(cells)
    return markdown(["Error", "What happened", "Was anything spent?", "What to do"], rows)


def peer_table() -> str:
    """Return how the same batch ends with the vendor's client, by hand, and here."""
    results = measured("peers")
    rows = [
        [
            name,
            f"{one['finished']} of 12",
            str(one["requests"]),
            str(one["refused"]),
            seconds(one["last"]),
            seconds(one["mean"]),
            str(one["lost"]),
        ]
        for name, one in results["medians"].items()
    ]
    columns = ["", "finished", "requests", "refused", "last comic", "mean comic", "paid and lost"]
    return markdown(columns, rows) + source(results, "peers", "medians of five runs")


def scheduling_table() -> str:
    """Return how near the schedule comes to one that knows every duration beforehand."""
    results = measured("scheduling")
    batches, arrivals = results["batches"], results["arrivals"]
    rates = ("1", "2.5", "4")
    rows = [["batches of 4 to 100: last comic / mean comic"]]
    rows += [["1, 2.5, 4 comics a minute: mean comic"], ["the same: seconds that a create waits"]]
    for client in ("llamagen_async", "window, in order"):
        together = batches[f"{client}, together"]
        rows[0].append(f"{together['last']:.2f} / {together['mean']:.2f}")
        each = [arrivals[f"{client}, {rate}"] for rate in rates]
        rows[1].append(", ".join(f"{one['mean']:.2f}" for one in each))
        rows[2].append(", ".join(f"{one['create_wait']:.1f}" for one in each))
    table = markdown(["", "this client", "first come, first served"], rows)
    return table + source(results, "scheduling", f"{results['seeds']} seeds in virtual time")


TABLES: Final[dict[str, Callable[[], str]]] = {
    "errors": error_table,
    "peers": peer_table,
    "scheduling": scheduling_table,
}


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def measured(name: str) -> dict[str, Any]:
    """Return what a benchmark has written."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def seconds(value: float | None) -> str:
    """Return a time as the tables show it."""
    return "never" if value is None else f"{value:.0f} s"


def source(results: dict[str, Any], name: str, how: str) -> str:
    """Return the line below a table: who measured it, on what."""
    day, python = results["date"][:10], results["python"]
    command = f"nox -s bench -- benchmarks/{name}.py"
    return f"\n`{command}`: {how}, {python}, {results['machine']}, {day}.\n"


def with_tables(text: str) -> str:
    """Return a document with all tables in their places."""
    return PLACE.sub(lambda found: found[1] + TABLES[found[2]]() + found[4], text)


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(with_tables(document.read_text(encoding="utf-8")), encoding="utf-8")
