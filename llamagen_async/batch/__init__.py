"""Many comics: fan-out, a journal that survives crashes, results as they come, pictures on disk."""

from llamagen_async.batch.batch import Batch, BatchProgress
from llamagen_async.batch.events import ComicEvent, ComicJob
from llamagen_async.batch.queue import ComicQueue

__all__ = ["Batch", "BatchProgress", "ComicEvent", "ComicJob", "ComicQueue"]
