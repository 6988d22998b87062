"""Tests of reading stories."""
