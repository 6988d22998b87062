"""Tests of the ledger on a Redis server."""
