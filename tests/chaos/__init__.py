"""Chaos in virtual time: whatever happens, nothing is paid twice and nothing paid is lost."""
