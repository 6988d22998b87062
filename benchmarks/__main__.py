"""Runs the benchmarks, each in a process of its own.

    python -m benchmarks [--list] [--quick] [NAME ...]

Without names all of them run, the peers included. A benchmark that fails is told, the others go on,
and the exit status is 1 at the end. Each prints tables and writes `benchmarks/results/NAME.json`;
`python docs/tables.py` then writes what README and docs say of them.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent


def benchmarks() -> dict[str, str]:
    """Return the first line of each benchmark's docstring, by name."""
    files = sorted(HERE.glob("[!_]*.py"))
    texts = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in files}
    return {
        name: (ast.get_docstring(tree) or "").partition("\n")[0] for name, tree in texts.items()
    }


def failure_of(name: str, options: list[str]) -> str | None:
    """Run one benchmark; return what went wrong, if anything did."""
    begun = time.monotonic()
    print(f"\n== {name}", flush=True)
    status = subprocess.run(
        [sys.executable, str(HERE / f"{name}.py"), *options], check=False
    ).returncode
    print(f"== {name}: {time.monotonic() - begun:.0f} s", flush=True)
    return f"{name}: exit status {status}" if status else None


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line names; return the exit status."""
    known = benchmarks()
    parser = argparse.ArgumentParser("python -m benchmarks", description="Run the benchmarks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="without any, all of them")
    parser.add_argument("--list", action="store_true", help="say which there are, and run none")
    parser.add_argument("--quick", action="store_true", help="rougher numbers, in minutes")
    options = parser.parse_args(arguments)
    unknown = sorted({*options.names} - {*known})
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are: {', '.join(known)}")
    if options.list:
        width = max(map(len, known))
        print("\n".join(f"{name:{width}}  {what}" for name, what in known.items()))
        return 0
    names = list(dict.fromkeys(options.names)) or list(known)
    flags = ["--quick"] * options.quick
    try:
        failures = [failure for name in names if (failure := failure_of(name, flags))]
    except KeyboardInterrupt:
        return 130
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
