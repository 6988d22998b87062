"""The ledger that all processes of one machine share: a SQLite file."""
