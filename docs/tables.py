"""The tables and plots of the README and of the documentation, from what they are about.

    python docs/tables.py

writes them where the documents mark their places: the errors from the docstrings, the numbers from
what the benchmarks have measured (`benchmarks/results`), the plots into `docs/plots`.
`nox -s bench` ends with it, and `tests/test_tables.py` fails if a document or a plot says something
else.
"""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from plots import Points, chart, ends_of, timeline

from llamagen_async import errors
from llamagen_async.validation import LlamaGenError

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = ROOT / "benchmarks/results"
PLOTS: Final = ROOT / "docs/plots"
PLACE: Final = re.compile(r"(<!-- table: (\w+) -->\n)(.*?)(<!-- end -->\n)", flags=re.DOTALL)
PLOT: Final = re.compile(r"(<!-- plot: (\w+) -->\n)(.*?)(<!-- end -->\n)", flags=re.DOTALL)
DOCUMENTS: Final = [
    path
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    )
    if "_build" not in path.parts and "<!-- end -->" in path.read_text(encoding="utf-8")
]
RATES: Final = ("1", "2.5", "4")
"""Comics that arrive in a minute, one by one."""
PROCESSES: Final = (1, 2, 4, 8)


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
        for section in ("Spent", "To do"):
            found = re.search(
                rf"^{section}: (.+?)(?=\n\S[^\n]*: |\Z)", text, re.DOTALL | re.MULTILINE
            )
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
            f"{one['finished']} of {results['comics']}",
            str(one["requests"]),
            str(one["refused"]),
            seconds(one["last"]),
            seconds(one["mean"]),
            str(one["lost"]),
        ]
        for name, one in results["medians"].items()
    ]
    columns = ["", "finished", "requests", "refused", "last comic", "mean comic", "paid and lost"]
    runs = min(map(len, results["runs"].values()))
    return markdown(columns, rows) + source("peers", f"medians of {runs} runs")


def scheduling_table() -> str:
    """Return how near the schedule comes to one that knows every duration beforehand."""
    results = measured("scheduling")
    batches, arrivals = results["batches"], results["arrivals"]
    rows = [["batches of 4 to 100: last comic / mean comic"]]
    rows += [["1, 2.5, 4 comics a minute: mean comic"], ["the same: seconds that a create waits"]]
    for client in ("llamagen_async", "window, in order"):
        together = batches[f"{client}, together"]
        rows[0].append(f"{together['last']:.2f} / {together['mean']:.2f}")
        each = [arrivals[f"{client}, {rate}"] for rate in RATES]
        rows[1].append(", ".join(f"{one['mean']:.2f}" for one in each))
        rows[2].append(", ".join(f"{one['create_wait']:.1f}" for one in each))
    table = markdown(["", "this client", "first come, first served"], rows)
    return table + source("scheduling", virtual(results))


def mutation_table() -> str:
    """Return how many changes of the code the tests have noticed."""
    figures = json.loads((ROOT / "tests/mutation/figures.json").read_text(encoding="utf-8"))
    rows = [
        [
            name,
            str(one["mutants"]),
            f"{one['run']} (seed {one['seed']}{', quick' if one['quick'] else ''})",
            str(one["killed"]),
            str(one["timeouts"]),
            str(one["survived"]),
            f"{one['share']:.0f} %",
        ]
        for name, one in figures.items()
    ]
    columns = ["target", "mutants", "run", "killed", "timeouts", "survived", "noticed"]
    dates = sorted(one["date"] for one in figures.values())
    return markdown(columns, rows) + f"\n`nox -s mutation`; the newest run is of {dates[-1]}.\n"


def timeline_plot() -> str:
    """Return the picture of one batch, by two clients."""
    results = measured("scheduling")
    clients = {
        "this client": results["timelines"]["llamagen_async"],
        "first come, first served": results["timelines"]["window, in order"],
    }
    words = "; ".join(f"{name}: {ends_of(comics)}" for name, comics in clients.items())
    return timeline(
        "One batch on the paid plan: when each comic was sent, checked, done, noticed",
        f"Twelve comics at once. {words}.",
        clients,
        source_line("scheduling", "one seed, virtual time"),
    )


def scaling_table() -> str:
    """Return what one more story costs while many wait."""
    results = measured("scaling")
    rows = [
        [
            f"{one['waiting']:,}",
            f"{one['submit_ms']:.1f} ms",
            f"{one['position_ms']:.1f} ms",
            f"{one['process_mb']:.0f} MB",
            size(one["journal_bytes_each"]),
            f"{other['create_ms']:.2f} ms",
            size(other["bytes_each"]),
        ]
        for one, other in zip(results["queue"], results["memory"], strict=True)
    ]
    columns = [
        "waiting",
        "queue: one more",
        "its position",
        "process",
        "on disk, each",
        "`create`: one more",
        "memory each",
    ]
    return markdown(columns, rows) + source("scaling", least(results))


def scaling_plot() -> str:
    """Return the picture of the time that one more story takes."""
    results = measured("scaling")
    lines = {
        "queue: submit one more": line(results["queue"], "submit_ms"),
        "its position": line(results["queue"], "position_ms"),
        "create, in memory": line(results["memory"], "create_ms"),
    }
    return chart(
        "Processor time of one more story while many wait",
        span_of(lines, "ms"),
        ("stories that wait", "milliseconds"),
        lines,
        source_line("scaling", least(results)),
        log_y=True,
    )


def memory_plot() -> str:
    """Return the picture of the memory of a process that many wait in."""
    results = measured("scaling")
    lines = {"a queue with a journal": line(results["queue"], "process_mb")}
    return chart(
        "Memory of the process",
        span_of(lines, "MB"),
        ("stories that wait", "MB"),
        lines,
        source_line("scaling", "all of the process, with Python and the libraries"),
    )


def worker_table() -> str:
    """Return how several processes behind one key compare with one."""
    results = measured("fleet")
    rows: list[list[str]] = []
    kinds = [*(f"{rate} a minute" for rate in RATES), "a batch of 100"]
    for kind in kinds:
        each = [results[f"{kind}, {number}"] for number in PROCESSES]
        wait = ", ".join(f"{one['create_wait']:.1f}" for one in each)
        mean = ", ".join(f"{one['mean']:.0f}" for one in each)
        refused = str(sum(one["refused"] for one in each))
        rows.append([kind, wait, mean, refused])
    processes = ", ".join(map(str, PROCESSES))
    columns = [f"{processes} workers", "seconds a create waits", "mean comic, s", "refused"]
    return markdown(columns, rows) + source("fleet", virtual(results))


def workers_plot(what: str, title: str, upwards: str) -> str:
    """Return the picture of one number of `worker_table`."""
    results = measured("fleet")
    lines: dict[str, Points] = {
        f"{rate} a minute": [
            (number, results[f"{rate} a minute, {number}"][what]) for number in PROCESSES
        ]
        for rate in RATES
    }
    words = span_of(lines, "s")
    axes = ("workers behind one key", upwards)
    return chart(title, words, axes, lines, source_line("fleet", virtual(results)))


def webhook_table() -> str:
    """Return how many webhook deliveries one core takes."""
    results = measured("webhooks")
    names = ("bare", "verified", "kept", "ended")
    rows = [
        [str(one["panels"]), *(f"{one[name]:,}" if name in one else "-" for name in names)]
        for one in results["deliveries_a_second"]
    ]
    columns = ["panels", "HMAC and JSON alone", "verified", "and kept", "and a wait has ended"]
    how = f"deliveries a second of processor time, the best of {results['runs']} runs"
    return markdown(columns, rows) + source("webhooks", how)


TABLES: Final[dict[str, Callable[[], str]]] = {
    "errors": error_table,
    "peers": peer_table,
    "scheduling": scheduling_table,
    "scaling": scaling_table,
    "workers": worker_table,
    "webhooks": webhook_table,
    "mutation": mutation_table,
}
DRAWN: Final[dict[str, Callable[[], str]]] = {
    "timeline": timeline_plot,
    "scaling": scaling_plot,
    "memory": memory_plot,
    "workers_wait": lambda: workers_plot(
        "create_wait", "How long a create waits, by the number of workers", "seconds"
    ),
    "workers_mean": lambda: workers_plot(
        "mean", "The mean comic, by the number of workers", "seconds"
    ),
}
"""The plots, by the name of the file and of the place in a document."""


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


def size(value: float | None) -> str:
    """Return bytes as the tables show them; few stories tell nothing of one of them."""
    return "-" if value is None else f"{max(0.0, value) / 1000:.1f} KB"


def line(rows: list[dict[str, Any]], what: str) -> list[tuple[float, float]]:
    """Return the points of one number over those that wait."""
    return [(row["waiting"], row[what]) for row in rows]


def span_of(lines: Mapping[str, Points], unit: str) -> str:
    """Return in words where each line begins and ends."""
    told = (
        f"{name}: {some[0][1]:.2f} {unit} at {some[0][0]:,}, {some[-1][1]:.2f} {unit} at "
        f"{some[-1][0]:,}"
        for name, some in lines.items()
    )
    return "; ".join(told) + "."


def virtual(results: dict[str, Any]) -> str:
    """Return how a simulation was measured: the machine makes no difference to it."""
    seeds = results["seeds"]
    return f"{seeds} {'seed' if seeds == 1 else 'seeds'} in virtual time"


def least(results: dict[str, Any]) -> str:
    """Return how the processor's time was measured."""
    return f"processor time, the least of {results['rounds']}"


def source_line(name: str, how: str) -> str:
    """Return what measured a benchmark's numbers, on what."""
    results = measured(name)
    on = results["machine"]
    setting = "quick run, " if results["quick"] else ""
    machine = f"{on['cpu']}, {on['cores']} cores, {on['python']}, {on['os']}"
    return f"{setting}{how}; {machine}, {results['date'][:10]}"


def source(name: str, how: str) -> str:
    """Return the line below a table: who measured it, on what."""
    return f"\n`nox -s bench -- {name}`: {source_line(name, how)}.\n"


def image(name: str, document: Path) -> str:
    """Return a plot in Markdown, with what it says in words."""
    drawn = DRAWN[name]()
    title, words = (
        re.findall(rf"<{tag} id=\"\w+\">(.*?)</{tag}>", drawn)[0] for tag in ("title", "desc")
    )
    link = Path(os.path.relpath(PLOTS / f"{name}.svg", document.parent)).as_posix()
    return f"![{title}. {words}]({link})\n"


def with_tables(document: Path) -> str:
    """Return a document with all tables and plots in their places."""
    text = document.read_text(encoding="utf-8")
    text = PLACE.sub(lambda found: found[1] + TABLES[found[2]]() + found[4], text)
    return PLOT.sub(lambda found: found[1] + image(found[2], document) + found[4], text)


if __name__ == "__main__":
    PLOTS.mkdir(exist_ok=True)
    for name, draw in DRAWN.items():
        (PLOTS / f"{name}.svg").write_text(draw(), encoding="utf-8")
    for document in DOCUMENTS:
        document.write_text(with_tables(document), encoding="utf-8")
