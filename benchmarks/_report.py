"""Helpers of all benchmarks: `--quick`, tables on the screen, numbers in a file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

__all__ = ["is_quick", "machine", "print_table", "write_json"]

RESULTS: Final = Path(__file__).parent / "results"


def is_quick(doc: str | None) -> bool:
    """Read the command line; return whether a run of a few seconds is wanted."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds, rougher numbers")
    return bool(parser.parse_args().quick)


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *remarks: str
) -> None:
    """Print rows under their columns: the first column to the left, the others to the right."""
    lines = [[_shown(cell) for cell in row] for row in [columns, *rows]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    print(f"\n{title}\n")
    for line in lines:
        first, *others = zip(line, widths, strict=True)
        cells = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        print("  " + "  ".join(cells).rstrip())
    for remark in remarks:
        print(f"  {remark}")


def machine() -> dict[str, Any]:
    """Return what the numbers depend on, and nothing that tells whose machine it is."""
    return {
        "cpu": _processor() or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "os": f"{platform.system()} {platform.machine()}",
    }


def write_json(
    name: str, packages: Iterable[str], results: Mapping[str, Any], *, quick: bool
) -> None:
    """Write `results/NAME.json`: what was measured, when, on what, and with which versions."""
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": {package: _version(package) for package in packages},
        "quick": quick,
        **results,
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(report, indent=2) + "\n"
    (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")
    print("\n  {cpu}, {cores} cores, {python}, {os}".format(**machine()))


def _processor() -> str | None:
    """Return the processor's model, where the system tells it in a file."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return found and " ".join(found[1].split())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _shown(cell: object) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.2f}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
