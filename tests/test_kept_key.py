"""The file in which the vendor's command line keeps a key, as other programs leave it."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamagen_async import LlamaGenClient

KEY = "sk-kept-0123456789"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_kept_key_is_found_whatever_has_written_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """Editors of Windows put a mark before UTF-8, and its older shell writes UTF-16."""
    monkeypatch.delenv("LLAMAGEN_API_KEY", raising=False)
    monkeypatch.setenv("LLAMAGEN_CONFIG_HOME", str(tmp_path))
    (tmp_path / "credentials.json").write_text(f'{{"apiToken": "{KEY}"}}', encoding=encoding)
    assert LlamaGenClient().account == LlamaGenClient(KEY).account
