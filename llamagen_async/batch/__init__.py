"""Many comics: a batch, or a queue for backends, both over a journal that survives crashes."""
