"""Tests of `llamagen_async/downloads`."""
