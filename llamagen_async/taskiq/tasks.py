"""The tasks that are added to a taskiq app, one for each type of request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, Final

from taskiq import AsyncBroker, AsyncTaskiqDecoratedTask, Context, TaskiqDepends

from llamagen_async.batch.events import ComicJob
from llamagen_async.batch.journal.story import Story
from llamagen_async.errors import InvalidRequestError
from llamagen_async.observing import about, logger_of
from llamagen_async.requests import RequestType
from llamagen_async.taskiq.rows import Kick

__all__ = ["ComicTask", "ComicTasks", "TaskResult", "result_of"]

_logger = logger_of(__name__)

TaskResult = dict[str, Any]
"""The result of a task, as JSON has it: `key`, `state`, `id`, `urls`, `files` and `error`."""
ComicTask = AsyncTaskiqDecoratedTask[..., Any]
"""A task of these."""
_NAMES: Final = {
    RequestType.COMIC: "generate",
    RequestType.CONTINUE: "continue_write",
    RequestType.UPDATE_PANEL: "update_panel",
    RequestType.ANIMATION: "animate",
}


class ComicTasks:
    """The tasks of one app.

    Args:
        broker: The app's broker.
        prefix: The beginning of the tasks' names.
        add: Takes a job in, given its story, its task's id and whether it is urgent, and returns
            its key.
        work: Takes the job of a key to its end.
    """

    def __init__(
        self,
        broker: AsyncBroker,
        *,
        prefix: str,
        add: Callable[[Story, str, bool], Awaitable[str]],
        work: Callable[[str], Awaitable[TaskResult]],
    ) -> None:
        self._broker = broker
        self._add = add
        self._work = work
        self.by_type: Final = {type_: self._task(prefix, type_) for type_ in RequestType}
        """The tasks, by the type of their requests."""

    async def send(self, kicks: Sequence[Kick]) -> list[str]:
        """Send the tasks of jobs; return the keys of those for which it was done."""
        sent: list[str] = []
        for key, type_, id_ in kicks:
            try:
                task = self.by_type[RequestType(type_)]
                await task.kicker().with_task_id(id_).kiq(None, key=key)
            except Exception as error:  # noqa: BLE001  # brokers raise what they like
                what, known = type(error).__name__, about(job_key=key)
                _logger.warning("the task of %s is not sent yet: %s", key, what, extra=known)
            else:
                sent.append(key)
        return sent

    def _task(self, prefix: str, type_: RequestType) -> ComicTask:
        async def task(
            request: Any = None,
            key: str | None = None,
            *,
            urgent: bool = False,
            context: Annotated[Context, TaskiqDepends()],
        ) -> TaskResult:
            if request is not None:
                story = Story.parse(_typed(request, type_), key)
                key = await self._add(story, context.message.task_id, urgent)
            if key is None:
                raise InvalidRequestError("request", None, "a prompt or a mapping of fields")
            return await self._work(key)

        name = _NAMES[type_]
        task.__name__ = task.__qualname__ = name
        task.__doc__ = f"Make one {type_} to its end; see `TaskiqQueue.{name}`."
        # Never again by taskiq: what may be repeated is known where it is sent.
        return self._broker.register_task(task, task_name=f"{prefix}:{name}", retry_on_error=False)


def result_of(job: ComicJob) -> TaskResult:
    """Return what a task's result says of its job."""
    generation = job.generation
    return {
        "key": job.key,
        "state": job.state.value,
        "id": generation.id if generation else None,
        "urls": list(generation.asset_urls) if generation else [],
        "files": [str(file) for file in job.files],
        "error": None if job.error is None else str(job.error),
    }


def _typed(request: Any, type_: RequestType) -> Any:
    """Return the request of a task, which is of the task's type."""
    if isinstance(request, Mapping):
        fields: dict[str, Any] = {"type": type_.value, **request}
        if fields["type"] != type_.value:
            raise InvalidRequestError("type", fields["type"], f"{type_.value!r} for this task")
        return fields
    if type_ is RequestType.COMIC:
        return request
    raise InvalidRequestError("request", request, "a mapping of fields")
