"""The cells of docs/notebooks.md run one after another, as a notebook runs them."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import llamagen_async
from llamagen_async.sandbox import Durations, SandboxService
from llamagen_async.simulation import simulated_client

pytestmark = pytest.mark.virtual_time

PAGE = (Path(__file__).parents[1] / "docs/notebooks.md").read_text(encoding="utf-8")
CELLS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


async def test_the_cells_run_in_a_loop_that_is_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cells await at their top level; the bar counts each comic, and the comic is shown."""
    monkeypatch.chdir(tmp_path)
    service = SandboxService(seed=1, durations=Durations.constant(20))
    monkeypatch.setattr(llamagen_async, "LlamaGenClient", lambda: simulated_client(service))
    names: dict[str, Any] = {}
    for cell in CELLS:
        code = compile(cell, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        running = eval(code, names)  # a cell of the documentation
        if inspect.isawaitable(running):
            await running
    said = capsys.readouterr()
    assert said.out == "['succeeded', 'succeeded', 'succeeded'] 3\n"
    assert "3/3" in said.err
    assert names["comic"]._repr_html_().count("<figure") == 4
    assert len(list((tmp_path / "comics").glob("*.png"))) == 15
