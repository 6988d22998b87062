"""Pictures and videos on disk, whole or not at all."""
