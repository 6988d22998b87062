"""Tests of the files that a run leaves."""
