"""Tests of a run of many stories."""
