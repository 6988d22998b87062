"""The ledger that any number of hosts share: Redis."""
