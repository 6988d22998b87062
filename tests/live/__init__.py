"""A conversation with the real server: `nox -s live`.

No file here has a name that pytest collects by itself, so these tests run in their own session
only: they need a key, and take requests of its day.
"""
