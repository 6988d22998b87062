"""The recipes of docs/recipes: each runs in its framework as it stands, against a sandbox."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.once

RECIPES = Path(__file__).parents[2] / "docs" / "recipes"
TOKEN = {"Authorization": "Bearer the token"}
UVICORN = ("-m", "uvicorn", "--no-access-log", "--fd", "{fd}", "{name}:app")
