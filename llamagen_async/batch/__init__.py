"""Many comics: fan-out, results in order of completion, pictures on disk."""
