"""How many requests a key may still send, and when the next slot is free."""
