"""The page to try the routes with: one file, which loads nothing from anywhere else."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from functools import cache
from importlib.resources import files
from typing import Final

from llamagen_async.web.messages import WebReply

__all__ = ["page"]

_FILE: Final = "page.html"
_ROOT: Final = "$root"
"""The text in the file that is replaced by the path at which the routes are mounted."""


def page(root: str) -> WebReply:
    """Return the page.

    Args:
        root: The path at which the routes are mounted.
    """
    content, policy = _parts()
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    body = content.replace(_ROOT, html.escape(root))
    return WebReply(200, body.encode(), "text/html; charset=utf-8", headers)


@cache
def _parts() -> tuple[str, str]:
    """Return the file, and the policy that lets its own style and script alone run."""
    content = files("llamagen_async.web").joinpath(_FILE).read_text("utf-8")
    allowed = {
        tag: _digest(re.search(f"<{tag}>(.*?)</{tag}>", content, flags=re.DOTALL))
        for tag in ("style", "script")
    }
    policy = (
        f"default-src 'none'; style-src {allowed['style']}; script-src {allowed['script']}; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return content, policy


def _digest(found: re.Match[str] | None) -> str:
    assert found is not None
    digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
    return f"'sha256-{digest}'"
