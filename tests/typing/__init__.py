"""Types that users see. mypy checks these files; nothing in them runs."""
