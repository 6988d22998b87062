"""One request out, one decoded answer in."""
