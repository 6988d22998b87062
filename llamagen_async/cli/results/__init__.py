"""Files that a run leaves in its folder: `results.jsonl` and the gallery."""
