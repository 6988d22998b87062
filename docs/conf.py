"""The documentation site: `nox -s docs` builds it from these pages and from the docstrings."""

from __future__ import annotations

import importlib.metadata

project = "llamagen_async"
author = "the authors of llamagen_async"
version = release = importlib.metadata.version("llamagen_async")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
html_theme = "furo"
html_title = f"llamagen_async {release}"
html_copy_source = False
# Pages that are shown as they stand elsewhere, and examples that are included in others.
exclude_patterns = ["recipes/README.md", "_build"]

myst_enable_extensions = ["colon_fence", "fieldlist"]
myst_heading_anchors = 3

# In docstrings, what stands between single backticks is code.
default_role = "code"
nitpicky = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Spent", "notes_style"), ("What to do", "notes_style")]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "undoc-members": False}
maximum_signature_line_length = 80
copybutton_exclude = ".linenos, .gp, .go"
