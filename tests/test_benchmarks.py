"""The benchmarks can be named, run one by one or all, and a failure of one stops no other.

CI measures nothing: here they are imported, and the least of a fast one is run.
"""

from __future__ import annotations

import bisect
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Final

import pytest

from llamagen_async.forecasting.forecast import AGES, FIRST_VERSION, DurationForecast

FOLDER: Final = Path(__file__).parents[1] / "benchmarks"
ELSEWHERE: Final = {"limiter": "pyrate_limiter"}
"""Benchmarks that need a package which only their own session installs."""


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Load a file of the benchmarks as Python does that runs it; they are no package."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for helper in ("_report", "_redis", "scheduling"):
        monkeypatch.delitem(sys.modules, helper, raising=False)
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, found)
    spec.loader.exec_module(found)
    return found


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Any:
    return load("__main__", monkeypatch)


@pytest.fixture
def runs(runner: Any, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Collect what would be run; `peers` fails."""
    found: list[list[str]] = []

    def run(command: list[str], *, check: bool) -> SimpleNamespace:
        assert not check
        found.append([Path(command[1]).stem, *command[2:]])
        return SimpleNamespace(returncode=3 if "peers" in command[1] else 0)

    monkeypatch.setattr(subprocess, "run", run)
    return found


def test_all_benchmarks_are_listed_with_what_they_measure(
    runner: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runner.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(
        path.stem for path in FOLDER.glob("[!_]*.py")
    )
    assert all(line.endswith(".") for line in lines)


def test_a_failure_is_told_and_the_others_go_on(
    runner: Any, runs: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert runner.main([]) == 1
    assert [name for name, *_ in runs] == list(runner.benchmarks())
    assert capsys.readouterr().err == "FAILED peers: exit status 3\n"


def test_ctrl_c_ends_all(
    runner: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_command: list[str], *, check: bool) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", run)
    assert runner.main([]) == 130
    assert capsys.readouterr().out == "\n== fleet\n"


def test_names_and_options_are_handed_on(runner: Any, runs: list[list[str]]) -> None:
    assert runner.main(["webhooks", "scaling", "webhooks", "--quick"]) == 0
    assert runs == [["webhooks", "--quick"], ["scaling", "--quick"]]


def test_an_unknown_name_runs_nothing(
    runner: Any, runs: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        runner.main(["peers", "webhook"])
    assert exit_.value.code == 2
    assert "no benchmark webhook; there are: fleet, " in capsys.readouterr().err
    assert runs == []


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("[!_]*.py")))
def test_a_benchmark_can_be_imported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in ELSEWHERE:
        monkeypatch.setitem(sys.modules, ELSEWHERE[name], Anything(ELSEWHERE[name]))
    assert load(name, monkeypatch).main


class Anything(ModuleType):
    """A package that is not installed, as far as an import needs it."""

    def __getattr__(self, name: str) -> type:
        return type(name, (), {})


def test_the_least_of_a_benchmark_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    webhooks = load("webhooks", monkeypatch)
    ((body, headers),) = webhooks.deliveries(1, 4)
    assert webhooks.read(body, headers).id == "evt_0"
    assert webhooks.bare(body, headers)["id"] == "evt_0"


def test_who_is_told_the_distribution_forecasts_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first check on: else the benchmark would compare with who knows nothing."""
    scheduling = load("scheduling", monkeypatch)
    with scheduling.told("constant 60"):
        forecast = DurationForecast()
        assert forecast.cumulative[bisect.bisect_left(AGES, 50.0)] < 0.001
        assert forecast.cumulative[bisect.bisect_right(AGES, 60.0)] > 0.999
        assert forecast.version > FIRST_VERSION, "plans are kept by the version"
