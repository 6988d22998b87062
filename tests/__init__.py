"""Tests of llamagen_async."""
