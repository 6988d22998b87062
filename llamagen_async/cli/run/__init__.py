"""A run of a batch on the command line: announcement, progress, summary."""
