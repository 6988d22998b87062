"""The `llamagen-async` command."""
