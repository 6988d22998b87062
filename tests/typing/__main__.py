"""Types as a product: `python -m tests.typing`, in an environment that has mypy and pyright.

All that is public has a type (`pyright --verifytypes`), and the Python blocks of README and docs
pass mypy and pyright, both strict. A block that is a part of a program stands in a function here,
whose arguments are what the text around the block says is there. So does every block of
`docs/reference/`, where all that is public is there; `tests/test_reference.py` runs those.
"""

from __future__ import annotations

import re
import subprocess
import symtable
import sys
import tempfile
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
GIVEN = {
    "client": "LlamaGenClient",
    "comics": "TaskiqQueue",
    "id": "str",
    "requests": "list[ComicRequest]",
    "stories": "list[str]",
}
"""The types of what a block may use without making it."""
HEAD = """\
# pyright: reportWildcardImportFromLibrary=false, reportUnusedVariable=false
# pyright: reportUnusedImport=false
from typing import Any

from llamagen_async import *
from llamagen_async.taskiq import TaskiqQueue
"""
"""The beginning of a part's module; a part may make what only the text after it uses."""
CELLS = "notebooks"
"""The page whose blocks are cells of one notebook; `tests/test_notebooks.py` runs them."""
REFERENCE = "reference"
"""The folder whose blocks name what is public without importing it."""
SETTINGS = '{"typeCheckingMode": "strict", "pythonVersion": "3.11"}'
STUB = "from starlette.applications import Starlette\n\napplication = Starlette()\n"
"""The program into which docs/web.md mounts the routes."""


def is_part(block: str) -> bool:
    """Return whether a block needs something that it does not make."""
    try:
        symbols = symtable.symtable(block, "block", "exec").get_symbols()
        compile(block, "block", "exec", dont_inherit=True)
    except SyntaxError:  # it awaits at its top level
        return True
    unbound = {one.get_name() for one in symbols if not (one.is_assigned() or one.is_imported())}
    return bool(unbound & (GIVEN.keys() - {"id"}))


def module_of(page: Path, block: str) -> str:
    """Return a block as a module of its own."""
    if page.parent.name != REFERENCE and not is_part(block):
        return block
    made = set(re.findall(r"^(\w+)(?::| =)", block, re.MULTILINE))
    needed = ", ".join(f"{name}: {type_}" for name, type_ in GIVEN.items() if name not in made)
    return f"{HEAD}\nasync def part({needed}) -> None:\n{textwrap.indent(block, '    ')}"


def fails(*command: str, folder: Path) -> bool:
    """Run a tool over a folder, and return whether it found something."""
    return subprocess.run([sys.executable, "-m", *command], cwd=folder, check=False).returncode != 0


def main() -> int:
    """Check all, and return the exit status."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "myproject").mkdir()
        (folder / "myproject/__init__.py").touch()
        (folder / "myproject/asgi.py").write_text(STUB, encoding="utf-8")
        (folder / "pyrightconfig.json").write_text(SETTINGS, encoding="utf-8")
        docs = ROOT / "docs"
        pages = (ROOT / "README.md", *docs.glob("*.md"), *docs.glob(f"{REFERENCE}/*.md"))
        for page in sorted(pages):
            if page.stem == CELLS:
                continue
            text = page.read_text(encoding="utf-8")
            for number, block in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL)):
                path = folder / f"{page.parent.name}_{page.stem}_{number}.py"
                path.write_text(module_of(page, block), encoding="utf-8")
        failed = [
            fails("mypy", "--strict", "--python-version=3.11", ".", folder=folder),
            fails("pyright", folder=folder),
            fails("pyright", "--verifytypes", "llamagen_async", "--ignoreexternal", folder=folder),
        ]
    return int(any(failed))


if __name__ == "__main__":
    raise SystemExit(main())
