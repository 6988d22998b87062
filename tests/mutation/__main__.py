"""Mutation testing of what decides about money and limits: `nox -s mutation -- --help`.

mutmut changes one thing at a time in a copy of the package, and runs the tests of that room which
call the changed function, the quickest first, until one fails. `figures.json` beside this file says
how the last run ended, `survivors.json` lists the mutants that no test noticed, each with the
reason why it is left alone; a reason written there is kept when the session runs again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tests.mutation.mutants import KILLED, ROOT, TIMEOUT, Mutant, Target, Workshop

sys.path.insert(0, str(ROOT / "benchmarks"))  # the benchmarks are programs, and no package
from _report import machine, print_table  # which is found there

HERE: Final = Path(__file__).parent
FIGURES: Final = HERE / "figures.json"
SURVIVORS: Final = HERE / "survivors.json"
LEAST: Final = 85
"""Percent of a target's mutants that the tests have to notice."""
KEPT: Final = ("seed", "quick", "run", "killed", "timeouts", "timed_out", "left_out")
"""Figures to which a run of the survivors adds."""
TARGETS: Final = {
    "webhooks": Target(
        ("llamagen_async/webhooks/*",),
        ("tests/webhooks", "tests/test_webhooks.py"),
        slow=("tests/test_webhooks.py",),
    ),
    "retries": Target(
        ("llamagen_async/transport/retries.py",), ("tests/transport/test_retries.py",)
    ),
    "ratelimit": Target(
        ("llamagen_async/ratelimit/*", "llamagen_async/machine_clock.py"),
        ("tests/ratelimit", "tests/test_machine_clock.py"),
        slow=(
            "tests/ratelimit/redis/test_cancellation.py",
            "tests/ratelimit/redis/test_failures.py",
            "tests/ratelimit/redis/test_ledger.py::test_a_server_with_tls_is_checked",
            "tests/ratelimit/redis/test_odd_answers.py",
            "tests/ratelimit/redis/test_reserve_script.py",
            "tests/ratelimit/test_blobs.py",
            "tests/ratelimit/test_differential.py",
            "tests/ratelimit/test_server_numbers.py::test_headers_only_lower_the_count_within_a_window",
        ),
    ),
    "scheduling": Target(
        ("llamagen_async/scheduling/*",),
        ("tests/scheduling",),
        slow=(
            "tests/scheduling/test_free_policy.py",
            "tests/scheduling/test_outage.py",
            "tests/scheduling/test_unmetered.py",
        ),
    ),
    "journal": Target(
        ("llamagen_async/batch/journal/*",),
        ("tests/batch/journal", "tests/batch/test_order.py", "tests/batch/test_resuming.py"),
        slow=("tests/batch/test_resuming.py",),
    ),
}


def target_of(name: str) -> Target | None:
    """Return a target, or a file of the package with the tests that mirror it."""
    path = Path(name)
    mirror = Path("tests") / path.with_name(f"test_{path.name}")
    if path.suffix == ".py" and (ROOT / "llamagen_async" / path).exists():
        return (
            Target((f"llamagen_async/{name}",), (str(mirror),))
            if (ROOT / mirror).exists()
            else None
        )
    return TARGETS.get(name)


def tested(name: str, arguments: argparse.Namespace) -> None:
    """Run mutants of one target, and write down the figures and the survivors."""
    folder = (arguments.folder / name.replace("/", "-")).resolve()
    target = target_of(name)
    assert target is not None
    workshop = Workshop(folder, target, quick=arguments.quick)
    mutants = workshop.mutants()
    figures, survivors = read(FIGURES), read(SURVIVORS)
    if arguments.again:
        chosen = survivors_in(mutants, survivors[name])
        results = {kept: figures[name][kept] for kept in KEPT}
    else:
        chosen, left_out = drawn(mutants, arguments.sample, arguments.seed)
        results = {"seed": arguments.seed, "quick": arguments.quick, "run": len(chosen)}
        results |= {"killed": 0, "timeouts": 0}
        results["left_out"] = left_out
    print(f"{name}: {len(chosen)} of {len(mutants)} mutants, seed {results['seed']}", flush=True)
    ends = workshop.run([one.name for one in chosen], arguments.processes) if chosen else {}
    counts = Counter(ends.values())
    results["killed"] += counts[KILLED]
    results["timeouts"] += counts[TIMEOUT]
    alive = [one for one in chosen if ends[one.name] not in {KILLED, TIMEOUT}]
    late = [one.name for one in chosen if ends[one.name] == TIMEOUT]
    results["timed_out"] = sorted([*results.get("timed_out", []), *late])
    results["survived"] = len(alive)
    results["share"] = round(100 * (1 - len(alive) / results["run"]), 1)
    day = datetime.now(UTC).date().isoformat()
    figures, survivors = read(FIGURES), read(SURVIVORS)  # others may have run meanwhile
    figures[name] = {"mutants": len(mutants), **results, "date": day, "machine": machine()}
    reasons = {key(row): row["reason"] for row in survivors.get(name, [])}
    rows = [{"name": one.name, **one.row()} for one in alive]
    rows.sort(key=lambda row: (row["file"], row["line"], row["name"]))
    survivors[name] = [{**row, "reason": reasons.get(key(row), "")} for row in rows]
    write(FIGURES, figures)
    write(SURVIVORS, survivors)


def drawn(
    mutants: list[Mutant], sample: int | None, seed: int
) -> tuple[list[Mutant], dict[str, int]]:
    """Return mutants in a random order, so many as are wanted, and what was left out on the way."""
    chosen: list[Mutant] = []
    left_out: Counter[str] = Counter()
    for one in random.Random(seed).sample(mutants, len(mutants)):
        if len(chosen) == sample:
            break
        if one.unseen is None:
            chosen.append(one)
        else:
            left_out[one.unseen] += 1
    return chosen, dict(sorted(left_out.items()))


def survivors_in(mutants: list[Mutant], rows: list[dict[str, Any]]) -> list[Mutant]:
    """Return the mutants that survived the last run."""
    by_name = {one.name: one for one in mutants}
    chosen = [by_name[row["name"]] for row in rows if row["name"] in by_name]
    if [key(one.row()) for one in chosen] != [key(row) for row in rows]:
        sys.exit("the mutated files have changed since the last run: leave out --again")
    return chosen


def key(row: dict[str, Any]) -> tuple[str, ...]:
    """Return what a survivor is known by when lines have moved."""
    return row["file"], row["function"], row["before"], row["after"]


def read(path: Path) -> dict[str, Any]:
    """Return what the last run has written."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def write(path: Path, content: dict[str, Any]) -> None:
    """Write the targets in their order, and files behind them."""
    files = sorted(set(content) - set(TARGETS))
    ordered = {name: content[name] for name in (*TARGETS, *files) if name in content}
    text = json.dumps(ordered, indent=2, ensure_ascii=False)
    path.write_text(f"{text}\n", encoding="utf-8")


def main() -> None:
    """Run the targets, print a table, and fail if one of them misses the bound."""
    parser = argparse.ArgumentParser(prog="nox -s mutation --", description=__doc__)
    kinds = f"{', '.join(TARGETS)}, or a file of the package, such as scheduling/policy.py"
    parser.add_argument("targets", nargs="*", metavar="target", help=kinds)
    parser.add_argument("--sample", type=int, metavar="N", help="N mutants of each target")
    parser.add_argument("--seed", type=int, help="the sample of an earlier run")
    parser.add_argument("--again", action="store_true", help="only the last run's survivors")
    parser.add_argument("--quick", action="store_true", help="without slow tests: a lower bound")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), metavar="N")
    parser.add_argument("--folder", type=Path, default=ROOT / "build/mutation")
    arguments = parser.parse_args()
    names = arguments.targets or list(TARGETS)
    if unknown := [name for name in names if target_of(name) is None]:
        parser.error(f"nothing to test: {', '.join(unknown)}; there are {kinds}, with its tests")
    if arguments.again and (missing := [name for name in names if name not in read(FIGURES)]):
        parser.error(f"--again: {', '.join(missing)} did not run before")
    if arguments.sample is not None and arguments.sample < 1:
        parser.error("--sample: at least 1")
    if arguments.seed is None:
        arguments.seed = random.randrange(10_000)
    for name in names:
        tested(name, arguments)
    figures = read(FIGURES)
    columns = ["mutants", "run", "killed", "timeouts", "survived", "share", "seed"]
    print_table(
        "Mutants that the tests notice",
        ["target", *columns],
        [[name, *(str(figures[name][column]) for column in columns)] for name in names],
        f"{SURVIVORS.relative_to(ROOT)} has the survivors; docs/tables.py writes the table anew",
    )
    low = [name for name in names if figures[name]["share"] < LEAST]
    if low:
        sys.exit(f"less than {LEAST} % noticed: {', '.join(low)}")


if __name__ == "__main__":
    main()
