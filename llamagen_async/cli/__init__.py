"""The `llamagen-async` command: generate comics from a terminal.

This module is only the door: it says what to install if the extra is missing, and loads the rest
when it is called. Importing it imports nothing beyond the standard library.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Final

__all__ = ["main"]

_NEEDED: Final = ("click", "rich")
"""The packages that the extra `cli` installs."""


def main() -> None:
    """Run the command line and exit with its status.

    0: all done. 1: something failed. 2: wrong usage. 130: interrupted.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        if sys.stderr is not None:
            sys.stderr.write(
                f"llamagen-async: {' and '.join(missing)} missing: "
                "install the command line with pip install 'llamagen-async[cli]'\n"
            )
        sys.exit(2)
    try:
        from llamagen_async.cli.app import run  # noqa: PLC0415 - needs the extra

        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)
