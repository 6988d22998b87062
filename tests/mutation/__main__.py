"""Mutation testing of what decides about money and limits: `nox -s mutation -- --help`.

mutmut changes one thing at a time in a copy of the package, and runs the tests of that room which
call the changed function, the quickest first, until one fails. `figures.json` beside this file says
how the last run ended, `survivors.json` lists the mutants that no test noticed, each with the
reason why it is left alone; a reason written there is kept when the session runs again.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Final

from benchmarks._report import machine, print_table
from tests.mutation.unseen import why_unseen

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
FIGURES: Final = HERE / "figures.json"
SURVIVORS: Final = HERE / "survivors.json"
LEAST: Final = 85
"""Percent of a target's mutants that the tests have to notice."""
KILLED, SURVIVED, NO_TEST, TIMEOUT = "killed", "survived", "no test", "timeout"
EXITS: Final = {0: SURVIVED, 1: KILLED, 3: KILLED, 33: NO_TEST}
"""What mutmut says of a mutant by the exit code of its tests."""
TIMEOUTS: Final = {-24, 24, 36, 152, 255}
"""Exit codes of tests that used up their time. mutmut's own score takes them for noticed."""
SETTINGS: Final = """

[tool.mutmut]
source_paths = ["llamagen_async/"]
only_mutate = {files}
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = ["-m", "not once", "-p", "no:cacheprovider"]
also_copy = ["README.md", "CONTRIBUTING.md", "docs/"]
timeout_multiplier = 12
timeout_constant = 1
use_git_change_detection = false
track_dependencies = false
"""
GENERATE: Final = """
from mutmut import __main__ as it
it.set_mutant_under_test("mutant_generation")
it.copy_src_dir()
it.copy_also_copy_files()
it.create_mutants(1)
"""
"""The first part of `mutmut run`, after which it is known which mutants there are."""


@dataclass(frozen=True)
class Target:
    """What is mutated, and the tests that are there to notice."""

    files: tuple[str, ...]
    tests: tuple[str, ...]


TARGETS: Final = {
    "webhooks": Target(
        ("llamagen_async/webhooks/*",), ("tests/webhooks", "tests/test_webhooks.py")
    ),
    "retries": Target(
        ("llamagen_async/transport/retries.py",), ("tests/transport/test_retries.py",)
    ),
    "ratelimit": Target(("llamagen_async/ratelimit/*",), ("tests/ratelimit",)),
    "scheduling": Target(("llamagen_async/scheduling/*",), ("tests/scheduling",)),
    "journal": Target(("llamagen_async/batch/journal/*",), ("tests/batch/journal",)),
}


@dataclass(frozen=True, order=True)
class Mutant:
    """One change of one line."""

    file: str
    line: int
    function: str
    before: str
    after: str
    name: str = field(compare=False)
    unseen: str | None = field(compare=False)


def prepare(folder: Path, target: Target) -> None:
    """Copy what the tests need, and let mutmut write the mutants."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("llamagen_async", "tests", "benchmarks", "docs"):
        ignored = shutil.ignore_patterns("__pycache__", "_build", "node_modules")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("README.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, folder)
    settings = SETTINGS.format(files=json.dumps(target.files), tests=json.dumps(target.tests))
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (folder / "pyproject.toml").write_text(text + settings, encoding="utf-8")
    run(folder, [sys.executable, "-c", GENERATE])


def run(folder: Path, command: Sequence[str]) -> None:
    """Run a part of mutmut; what it says is shown if it fails."""
    env = {
        **os.environ,
        "PYTHONPATH": str(folder / "mutants" if command[0] == mutmut() else folder),
        "PYTEST_DEBUG_TEMPROOT": str(folder),
    }
    # On a terminal, mutmut shows how far it is.
    shown = None if sys.stdout.isatty() and command[0] == mutmut() else subprocess.PIPE
    ended = subprocess.run(
        command, check=False, cwd=folder, env=env, text=True, stdout=shown, stderr=shown
    )
    if ended.returncode:
        print(ended.stdout or "", ended.stderr or "")
        sys.exit(f"mutmut ended with {ended.returncode}")


def mutants_of(folder: Path) -> list[Mutant]:
    """Return all mutants that mutmut has written, in the order of files and lines."""
    found: list[Mutant] = []
    for meta in sorted(folder.glob("mutants/llamagen_async/**/*.py.meta")):
        file = meta.relative_to(folder / "mutants").with_suffix("").as_posix()
        written = meta.with_suffix("").read_text(encoding="utf-8").splitlines(keepends=True)
        spans = json.loads(meta.with_suffix(".spans").read_text(encoding="utf-8"))["spans"]
        text = {one: "".join(written[start - 1 : end]) for one, (start, end) in spans.items()}
        starts = lines_of_functions((ROOT / file).read_text(encoding="utf-8"))
        for name in json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"]:
            short = name.rpartition(".")[2]
            mangled = short.partition("__mutmut_")[0]
            function = re.sub(r"^x[_ǁ]", "", mangled).replace("ǁ", ".")
            old, new = text[f"{mangled}__mutmut_orig"], text[short]
            offset, before, after = difference(old, new)
            line = starts[function] + offset
            found.append(Mutant(file, line, function, before, after, name, why_unseen(old, new)))
    return found


def lines_of_functions(source: str) -> dict[str, int]:
    """Return the lines where functions and methods begin, by their names."""
    body = ast.parse(source).body
    inner = [(f"{one.name}.", one.body) for one in body if isinstance(one, ast.ClassDef)]
    return {
        f"{prefix}{node.name}": node.lineno
        for prefix, nodes in [("", body), *inner]
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def difference(old: str, new: str) -> tuple[int, str, str]:
    """Return how far below its `def` a function differs from its mutant, and both versions."""
    before, after = body_of(old), body_of(new)
    for kind, start, end, begin, stop in SequenceMatcher(None, before, after).get_opcodes():
        if kind != "equal":
            return start, "\n".join(before[start:end]).strip(), "\n".join(after[begin:stop]).strip()
    raise AssertionError("a mutant that is as the function was")


def body_of(text: str) -> list[str]:
    """Return the lines of a function from its `def` on, without its name."""
    head = re.search(r"^ *(async )?def (\w+)", text, re.MULTILINE)
    assert head is not None
    return text[head.start() :].replace(head[2], "", 1).splitlines()


def results_of(folder: Path) -> dict[str, str]:
    """Return what became of the mutants that were run, by their names."""
    found: dict[str, str] = {}
    for meta in folder.glob("mutants/llamagen_async/**/*.py.meta"):
        for name, code in json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"].items():
            if code is not None:
                found[name] = TIMEOUT if code in TIMEOUTS else EXITS.get(code, f"exit {code}")
    return found


def tested(name: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one target's mutants; return the figures and the survivors."""
    prepare(folder, TARGETS[name])
    every = mutants_of(folder)
    seen = sorted(one for one in every if one.unseen is None)
    before = read(FIGURES).get(name) if arguments.again else None
    killed, timeouts, seed, chosen = 0, 0, arguments.seed, seen
    if before:  # what was killed stays so: tests have only been added
        killed, timeouts, seed = (before[one] for one in ("killed", "timeouts", "seed"))
        known = {key(row) for row in read(SURVIVORS)[name]}
        chosen = [one for one in seen if key(asdict(one)) in known]
    elif arguments.sample and arguments.sample < len(seen):
        chosen = random.Random(seed).sample(seen, arguments.sample)
    print(f"{name}: {len(chosen)} of {len(seen)} mutants, seed {seed}", flush=True)
    if chosen:
        names = [one.name for one in chosen]
        run(folder, [mutmut(), "run", "--max-children", str(arguments.processes), *names])
    results = results_of(folder)
    counts = Counter(results[one.name] for one in chosen)
    killed, timeouts = killed + counts[KILLED], timeouts + counts[TIMEOUT]
    survivors = [one for one in chosen if results[one.name] not in {KILLED, TIMEOUT}]
    ran = killed + timeouts + len(survivors)
    return {
        "mutants": len(seen),
        "run": ran,
        "killed": killed,
        "timeouts": timeouts,
        "survived": len(survivors),
        "share": round(100 * (killed + timeouts) / ran, 1),
        "left_out": dict(sorted(Counter(one.unseen for one in every if one.unseen).items())),
        "survivors": sorted(survivors),
        "seed": seed,
        "date": datetime.now(UTC).date().isoformat(),
    }


def mutmut() -> str:
    """Return the command of this environment."""
    return str(Path(sys.executable).with_name("mutmut"))


def remember(results: dict[str, dict[str, Any]]) -> None:
    """Write the figures and the survivors of the targets that ran; keep the reasons."""
    figures = read(FIGURES)
    survivors = read(SURVIVORS)
    for name, one in results.items():
        known = {key(old): old.get("reason", "") for old in survivors.get(name, [])}
        rows = []
        for mutant in one.pop("survivors"):
            row = {k: v for k, v in asdict(mutant).items() if k not in {"name", "unseen"}}
            rows.append({**row, "reason": known.get(key(row), "")})
        survivors[name] = rows
        figures[name] = {**one, "machine": machine()}
    for path, content in ((FIGURES, figures), (SURVIVORS, survivors)):
        ordered = {name: content[name] for name in TARGETS if name in content}
        text = json.dumps(ordered, indent=2, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8")


def key(row: dict[str, Any]) -> tuple[str, ...]:
    """Return what a survivor is known by when lines have moved."""
    return row["file"], row["function"], row["before"], row["after"]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def main() -> None:
    parser = argparse.ArgumentParser(prog="nox -s mutation --", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="target", help=f"of: {', '.join(TARGETS)}")
    parser.add_argument("--sample", type=int, metavar="N", help="N mutants of each target")
    parser.add_argument("--seed", type=int, help="the sample of an earlier run")
    parser.add_argument("--again", action="store_true", help="only the last run's survivors")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), metavar="N")
    parser.add_argument("--folder", type=Path, help="work there, and leave it for a look")
    arguments = parser.parse_args()
    unknown = set(arguments.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no target: {', '.join(sorted(unknown))} (there are {', '.join(TARGETS)})")
    if arguments.seed is None:
        arguments.seed = random.randrange(10_000)
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        for name in arguments.targets or TARGETS:
            results[name] = tested(name, (folder / name).resolve(), arguments)
            remember({name: dict(results[name])})
    rows = [
        [
            name,
            *(one[column] for column in ("mutants", "run", "killed", "survived", "timeouts")),
            f"{one['share']} %",
        ]
        for name, one in results.items()
    ]
    columns = ["target", "mutants", "run", "killed", "survived", "timeouts", "noticed"]
    print_table(
        "Mutants that the tests notice",
        columns,
        rows,
        f"seed {arguments.seed}; the survivors: {SURVIVORS}",
    )
    for name, one in results.items():
        if one["share"] < LEAST:
            sys.exit(f"{name}: less than {LEAST} % noticed")


if __name__ == "__main__":
    main()
