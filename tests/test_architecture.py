"""The rooms of CONTRIBUTING.md are those of the package, and imports only go down."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "llamagen_async"
MOST_LINES = {"llamagen_async": 400, "tests": 500}
PURE = (
    "diagnosis/findings.py",
    "diagnosis/judgements.py",
    "diagnosis/metering.py",
    "diagnosis/surroundings.py",
    "forecasting",
    "foreign.py",
    "models/",
    "plans.py",
    "prices.py",
    "ratelimit/throttle.py",
    "ratelimit/window_log.py",
    "requests/",
    "sandbox/service.py",
    "scheduling/free_policy.py",
    "scheduling/policy.py",
    "stored_values.py",
    "validation.py",
    "webhooks/",
)
"""Files and folders that decide or describe: they get the time as an argument and do no I/O."""
KEEPS_FORECASTS = "forecasting/saved.py"
"""The one file of the forecasts that waits, for the store in which they are kept."""
IMPURE = {"aiohttp", "asyncio", "os", "redis", "socket", "sqlite3", "threading", "time"}


def rooms() -> list[str]:
    """Return the rooms of the table in CONTRIBUTING.md, from the highest to the lowest."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    _, _, section = text.partition("\n## The rooms\n")
    table, _, _ = section.partition("\n## ")
    return re.findall(r"^\| `([\w/.]+)` \|", table, flags=re.MULTILINE)


ROOMS = rooms()
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
DOORS = {"llamagen_async", "llamagen_async.__main__"}
"""The modules above all rooms: one exports the public names, one starts the command line."""


def room_of(module: str) -> str:
    """Return the room of the longest name that a module's file is in."""
    inside = MODULES[module].relative_to(PACKAGE).as_posix()
    found = [room for room in ROOMS if inside == room or inside.startswith(f"{room.rstrip('/')}/")]
    assert found, f"{inside} is in no room of CONTRIBUTING.md"
    return max(found, key=len)


def imports(module: str) -> Iterator[tuple[str, int]]:
    """Yield the modules that a module imports and the lines, also for type checking and late."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno} imports relatively"
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                yield (inner if inner in MODULES else str(node.module)), node.lineno


ARROWS = {
    module: [(to, line) for to, line in imports(module) if to in MODULES] for module in MODULES
}


def test_each_room_of_the_table_exists() -> None:
    assert len(ROOMS) > 10
    assert len(set(ROOMS)) == len(ROOMS)
    assert [room for room in ROOMS if not (PACKAGE / room).exists()] == []


def test_no_room_imports_a_higher_one() -> None:
    """A room imports only rooms below it in the table."""
    up = [
        f"{module}:{line} ({room_of(module)}) imports {to} ({room_of(to)})"
        for module, arrows in ARROWS.items()
        if module not in DOORS
        for to, line in arrows
        if to in DOORS or ROOMS.index(room_of(to)) < ROOMS.index(room_of(module))
    ]
    assert up == []


def test_no_circle_of_modules() -> None:
    """Modules of one room, on whose order the table says nothing, form no circle either."""
    graph = {module: {to for to, _ in arrows} for module, arrows in ARROWS.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize(
    ("room", "allowed"),
    [
        # A stand-in that shared the client's code would share its mistakes.
        ("sandbox/", {"models/", "plans.py", "clock.py", "validation.py", "_version.py"}),
        # Whether a downloaded file is whole is decided in one place.
        (
            "batch/",
            {"scheduling/", "errors.py", "prices.py", "models/", "requests/", "clock.py"}
            | {"observing.py", "validation.py", "waiting.py"},
        ),
        # A journal can be read without the machinery that fills it.
        (
            "batch/journal/",
            {"errors.py", "prices.py", "models/", "requests/", "sqlite_file.py"}
            | {"foreign.py", "observing.py", "validation.py"},
        ),
    ],
)
def test_a_room_imports_only_what_it_is_allowed_to(room: str, allowed: set[str]) -> None:
    """Some rooms may import only a few of the rooms below them."""
    own = {one for one in ROOMS if one.startswith(room)}
    wrong = [
        f"{module}:{line} imports {to}"
        for module, arrows in ARROWS.items()
        if module not in DOORS and room_of(module) == room
        for to, line in arrows
        if room_of(to) not in own | allowed
    ]
    assert wrong == []


def test_what_decides_does_no_input_or_output() -> None:
    """Decisions get the time as an argument, so that a simulated day takes milliseconds."""
    assert [name for name in PURE if not (PACKAGE / name).exists()] == []
    wrong = [
        f"{inside}:{line} imports {name}"
        for module, path in MODULES.items()
        if (inside := path.relative_to(PACKAGE).as_posix()).startswith(PURE)
        and inside != KEEPS_FORECASTS
        for name, line in imports(module)
        if name.partition(".")[0] in IMPURE
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", MOST_LINES)
def test_no_file_is_long(folder: str) -> None:
    """A file with more lines holds two things."""
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in sorted((ROOT / folder).rglob("*.py"))
    }
    assert {name: n for name, n in lengths.items() if n > MOST_LINES[folder]} == {}


def test_no_class_name_is_defined_twice() -> None:
    """A name means one thing in the whole package."""
    found: dict[str, list[str]] = defaultdict(list)
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(module)
    assert {name: modules for name, modules in found.items() if len(modules) > 1} == {}
