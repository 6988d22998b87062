"""A target's working copy: what mutmut writes into it, and what became of its mutants."""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.mutation.unseen import why_unseen

__all__ = [
    "KILLED",
    "ROOT",
    "SURVIVED",
    "TIMEOUT",
    "Mutant",
    "Target",
    "Workshop",
    "without_tests",
]

ROOT: Final = Path(__file__).parents[2]
KILLED, SURVIVED, NO_TEST, TIMEOUT = "killed", "survived", "no test", "timeout"
EXITS: Final = {0: SURVIVED, 1: KILLED, 3: KILLED, 33: NO_TEST}
"""The verdict of mutmut on a mutant, by the exit code of its tests."""
TIMEOUTS: Final = {-24, 24, 36, 152, 255}
"""Exit codes of tests that used up their time. mutmut's own score takes them for noticed."""
COPIED: Final = ("llamagen_async", "tests", "benchmarks", "docs", "README.md", "CONTRIBUTING.md")
SETTINGS: Final = """

[tool.mutmut]
source_paths = ["llamagen_async/"]
only_mutate = {files}
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = {arguments}
also_copy = ["README.md", "CONTRIBUTING.md", "docs/"]
timeout_multiplier = 3
timeout_constant = 12
use_git_change_detection = false
track_dependencies = false
process_isolation = "forkserver"
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
    """The code that is mutated, and the tests that are there to notice."""

    files: tuple[str, ...]
    tests: tuple[str, ...]
    slow: tuple[str, ...] = ()
    """Tests that `--quick` leaves out."""


@dataclass(frozen=True)
class Mutant:
    """One change in one function."""

    name: str
    file: str
    old: str
    """The function as it is, under a name of mutmut's."""
    new: str

    @property
    def function(self) -> str:
        """The function's name, with its class."""
        mangled = self.name.rpartition(".")[2].partition("__mutmut_")[0]
        return re.sub(r"^x[_ǁ]", "", mangled).replace("ǁ", ".")

    @functools.cached_property
    def unseen(self) -> str | None:
        """Why no test is meant to notice, if that is so."""
        return why_unseen(self.old, self.new)

    def row(self) -> dict[str, str | int]:
        """Return where the change is, and what it is."""
        old, new = _from_def_on(self.old), _from_def_on(self.new)
        at = next(at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
        kept = 0
        while min(len(old), len(new)) - kept > at + 1 and old[-1 - kept] == new[-1 - kept]:
            kept += 1
        before, after = (
            " ".join(line.strip() for line in lines[at : len(lines) - kept]) for lines in (old, new)
        )
        line = _lines_of_functions((ROOT / self.file).read_text(encoding="utf-8"))[self.function]
        place: dict[str, str | int] = {"file": self.file, "line": line + at}
        return place | {"function": self.function, "before": before, "after": after}


class Workshop:
    """A folder with a copy of the package and its tests, in which mutmut works on one target.

    The folder is kept: mutmut writes only those mutants anew whose function has changed, and asks
    only those tests once more what they call that are new or stand in a file that has changed.
    """

    def __init__(self, folder: Path, target: Target, *, quick: bool) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        changed = [
            path for name in COPIED for path in _bring_up_to_date(ROOT / name, folder / name)
        ]
        shutil.rmtree(folder / "mutants/tests", ignore_errors=True)
        stats = folder / "mutants/mutmut-stats.json"
        if stats.exists():
            names = {path.relative_to(folder).as_posix() for path in changed}
            kept = without_tests(json.loads(stats.read_text(encoding="utf-8")), names)
            stats.write_text(json.dumps(kept), encoding="utf-8")
        arguments = ["-m", "not once", "-p", "no:cacheprovider"]
        arguments += [f"--deselect={test}" for test in target.slow if quick]
        values = {"files": target.files, "tests": target.tests, "arguments": arguments}
        settings = SETTINGS.format(**{name: json.dumps(value) for name, value in values.items()})
        text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        (folder / "pyproject.toml").write_text(text + settings, encoding="utf-8")
        self._run([sys.executable, "-c", GENERATE], folder)

    def mutants(self) -> list[Mutant]:
        """Return all mutants that mutmut has written, in an order that stays."""
        found: list[Mutant] = []
        for meta in self._metas():
            written = meta.with_suffix("").read_text(encoding="utf-8").splitlines(keepends=True)
            spans = json.loads(meta.with_suffix(".spans").read_text(encoding="utf-8"))["spans"]
            text = {one: "".join(written[start - 1 : end]) for one, (start, end) in spans.items()}
            file = meta.relative_to(self._folder / "mutants").with_suffix("").as_posix()
            for name in json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"]:
                short = name.rpartition(".")[2]
                original = f"{short.partition('__mutmut_')[0]}__mutmut_orig"
                found.append(Mutant(name, file, text[original], text[short]))
        return found

    def run(self, names: Sequence[str], processes: int) -> dict[str, str]:
        """Run the tests of these mutants; return what became of them."""
        command = str(Path(sys.executable).with_name("mutmut"))
        # On a terminal, mutmut shows how far it is.
        self._run(
            [command, "run", "--max-children", str(processes), *names],
            self._folder / "mutants",
            is_shown=sys.stdout.isatty(),
        )
        codes: dict[str, int] = {}
        for meta in self._metas():
            codes |= json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"]
        return {
            name: TIMEOUT if codes[name] in TIMEOUTS else EXITS.get(codes[name], str(codes[name]))
            for name in names
        }

    def _metas(self) -> list[Path]:
        return sorted(self._folder.glob("mutants/llamagen_async/**/*.py.meta"))

    def _run(self, command: Sequence[str], imported: Path, *, is_shown: bool = False) -> None:
        env = {
            **os.environ,
            "PYTHONPATH": str(imported),
            "PYTEST_DEBUG_TEMPROOT": str(self._folder),
        }
        out = None if is_shown else subprocess.PIPE
        ended = subprocess.run(
            command, check=False, cwd=self._folder, env=env, text=True, stdout=out, stderr=out
        )
        if ended.returncode:
            print(ended.stdout or "", ended.stderr or "")
            sys.exit(f"mutmut ended with {ended.returncode}")


def without_tests(stats: Mapping[str, Any], changed: Collection[str]) -> dict[str, Any]:
    """Return what mutmut knows of the tests, but for those that may call something else now.

    Args:
        stats: What it knows; a test without a duration is new to it.
        changed: The files that have changed. Of one that only helps, every test may make use.
    """
    files = {name for name in changed if name.startswith("tests/")}
    is_any = any(not Path(name).name.startswith("test_") for name in files)
    durations: Mapping[str, float] = {} if is_any else stats["duration_by_test"]
    kept = {test: time for test, time in durations.items() if test.partition("::")[0] not in files}
    return {**stats, "duration_by_test": kept}


def _bring_up_to_date(source: Path, copy: Path) -> list[Path]:
    """Copy files that differ and drop those that are gone: mutmut goes by their times.

    Returns:
        The copies that were written.
    """
    if source.is_file():
        if copy.exists() and copy.read_bytes() == source.read_bytes():
            return []
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
        return [copy]
    wanted = {one.name for one in source.iterdir()} - {"__pycache__", "_build", "node_modules"}
    for gone in {one.name for one in copy.iterdir()} - wanted if copy.exists() else set[str]():
        path = copy / gone
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return [path for name in wanted for path in _bring_up_to_date(source / name, copy / name)]


def _from_def_on(text: str) -> list[str]:
    """Return the lines of a function from its `def` on, without its name."""
    head = re.search(r"^ *(async )?def (\w+)", text, re.MULTILINE)
    assert head is not None
    return text[head.start() :].replace(head[2], "", 1).splitlines()


@functools.cache
def _lines_of_functions(source: str) -> dict[str, int]:
    """Return the lines where functions and methods begin, by their names."""
    body = ast.parse(source).body
    inner = [(f"{one.name}.", one.body) for one in body if isinstance(one, ast.ClassDef)]
    return {
        f"{prefix}{node.name}": node.lineno
        for prefix, nodes in [("", body), *inner]
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
