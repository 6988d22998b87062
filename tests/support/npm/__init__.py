"""The vendor's packages of npm, as they are published, installed into a folder of their own.

Without Node and npm, or without their registry, tests that need them are skipped; in CI they fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final, NoReturn

import attrs
import pytest

__all__ = ["Packages", "installed_packages"]

_PACKAGES: Final = ("comic@2.11.0", "@llamagen/cli@0.1.0")
_SCRIPTS: Final = Path(__file__).parent
_TIMEOUT: Final = 100.0
"""Seconds that an installation or a program may take; without a network npm tries for minutes."""


@attrs.frozen
class Packages:
    """A folder in which the packages are installed."""

    folder: Path

    def run(self, script: str, *arguments: str, stdin: str = "", **env: str) -> Any:
        """Run one of this folder's scripts, or a package's program; return how it ended."""
        path = self.folder / script
        if not path.exists():
            shutil.copy(_SCRIPTS / script, path)
        return subprocess.run(
            [_program("node"), str(path), *arguments],
            input=stdin,
            env={**_environment(), **env},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=_TIMEOUT,
            check=False,
        )


def installed_packages(folder: Path, *names: str) -> Packages:
    """Install packages, the vendor's if none is named; else the test is skipped, or fails in CI."""
    wanted = names or _PACKAGES
    npm, _ = _program("npm"), _program("node")
    folder.joinpath("package.json").write_text('{"private": true}', encoding="utf-8")
    options = ("--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline")
    try:
        done = subprocess.run(
            [npm, "install", *options, *wanted],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        _missing(f"npm took longer than {_TIMEOUT:g} s to install {' and '.join(wanted)}")
    if done.returncode:
        _missing(f"npm can't install {' and '.join(wanted)}: {done.stderr[-500:]}")
    return Packages(folder)


def _environment() -> dict[str, str]:
    """Return the variables of this process without the user's own key and addresses."""
    mine = {name for name in os.environ if name.startswith("LLAMAGEN_")}
    return {name: value for name, value in os.environ.items() if name not in mine}


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        _missing(
            f"no {name} to run the vendor's packages with: install Node.js 18 or newer, and npm"
        )
    return found


def _missing(what: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
