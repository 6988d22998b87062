"""Killed programs: real processes, and what they leave behind."""
