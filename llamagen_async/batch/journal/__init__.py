"""The journal of a batch: what was asked for, sent and accepted, in one SQLite file."""
