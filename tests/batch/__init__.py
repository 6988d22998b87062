"""Batches, queues and their journal."""
