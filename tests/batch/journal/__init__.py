"""Tests of `llamagen_async/batch/journal`."""
