"""A run of a batch on the command line: estimate, progress, summary."""
