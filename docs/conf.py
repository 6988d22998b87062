"""The documentation site: `nox -s docs` builds it from these pages and from the docstrings."""

from __future__ import annotations

import importlib.metadata
from typing import Any

project = "llamagen_async"
author = "the authors of llamagen_async"
version = release = importlib.metadata.version("llamagen_async")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
html_theme = "furo"
html_title = f"llamagen_async {release}"
html_copy_source = False
html_show_sourcelink = False
# Pages that are shown as they stand elsewhere, and examples that are included in others.
exclude_patterns = ["recipes/README.md", "_build"]

myst_enable_extensions = ["colon_fence", "fieldlist"]
myst_heading_anchors = 3

# In docstrings, what stands between single backticks is code.
default_role = "code"
nitpicky = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "undoc-members": False}
maximum_signature_line_length = 80
copybutton_exclude = ".linenos, .gp, .go"


def fenced_to_literal(
    _app: Any, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]
) -> None:
    """Turn the fenced blocks of docstrings, which editors show, into what Sphinx reads."""
    turned: list[str] = []
    inside = False
    for line in lines:
        if line.strip().startswith("```"):
            inside = not inside
            language = line.strip("` ") or "text"
            turned += ["", f".. code-block:: {language}", ""] if inside else [""]
        else:
            turned.append(f"   {line}" if inside else line)
    lines[:] = turned


def setup(app: Any) -> None:
    """Connect what is done before napoleon reads a docstring."""
    app.connect("autodoc-process-docstring", fenced_to_literal, priority=400)
