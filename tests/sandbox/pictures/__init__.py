"""Tests of the sandbox's pictures."""
