"""Many comics: fan-out, results in order of completion, pictures on disk."""

from llamagen_async.batch.runner import Batch, BatchProgress

__all__ = ["Batch", "BatchProgress"]
