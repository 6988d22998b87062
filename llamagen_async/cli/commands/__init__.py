"""The commands of `llamagen-async`, one module for each group of them."""
