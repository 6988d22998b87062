"""Tests of the scheduling."""
