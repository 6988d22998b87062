"""Tests of the ledger in a SQLite file."""
