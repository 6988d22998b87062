"""`llamagen-async continue` and `update-panel`: changes of one finished comic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from llamagen_async.cli.commands.limits import print_wait
from llamagen_async.cli.commands.options import Connection, pages_option
from llamagen_async.cli.commands.panel_options import check_change
from llamagen_async.cli.input.slot_wait import SlotWait
from llamagen_async.cli.interrupts import run_async
from llamagen_async.cli.output import Output
from llamagen_async.cli.results.folder import prepared_folder
from llamagen_async.cli.run.single import accepted, finish
from llamagen_async.plans import RequestKind
from llamagen_async.requests import ContinueRequest, UpdateRequest
from llamagen_async.uploads import check_files
from llamagen_async.validation import checked_id

__all__ = ["continue_comic", "update_panel"]


def continue_comic(
    *,
    connection: Connection,
    id: str,
    prompt: str,
    panels: int | None,
    pages: int | None,
    panels_per_page: int | None,
    images: tuple[str | Path, ...],
    output: Output,
    **waiting: object,
) -> int:
    """Have the finished comic ID go on with PROMPT, and print where all its pictures are."""
    request = ContinueRequest(
        prompt,
        fix_panel_num=panels,
        pagination=pages_option(panels, pages, panels_per_page),
        images=images,
    )
    return _change(connection, id, request, output, waiting)


def update_panel(
    *,
    connection: Connection,
    id: str,
    panel: int,
    page: int | None,
    fields: dict[str, Any],
    output: Output,
    **waiting: object,
) -> int:
    """Have one panel of the finished comic ID drawn again, and print where its pictures are."""
    check_change(fields)
    request = UpdateRequest(panel=panel, page=page, **fields)
    return _change(connection, id, request, output, waiting)


def _change(
    connection: Connection,
    id_: str,
    request: ContinueRequest | UpdateRequest,
    output: Output,
    waiting: dict[str, object],
) -> int:
    """Send a change and wait for its end; `waiting` is what `waiting_options` gave."""
    client = connection.client()
    checked_id("id", id_)
    check_files(request)
    out, timeout, slot_wait = waiting["out"], waiting["timeout"], waiting["slot_wait"]
    assert isinstance(slot_wait, SlotWait)
    assert isinstance(timeout, float)
    folder = prepared_folder(str(out)) if out is not None else None
    comics = client.comics

    async def work() -> int:
        await connection.prove_quota()
        async with client:
            wait = attrs.asdict(slot_wait)
            await print_wait(client, output, speed=connection.speed, **wait)
            if isinstance(request, UpdateRequest):
                kind, sending = RequestKind.UPDATE, comics.update_panel(id_, request, **wait)
            else:
                kind, sending = RequestKind.CONTINUE, comics.continue_write(id_, request, **wait)
            comic = await accepted(client, sending, kind, slot_wait, output)
            return await finish(
                comics,
                comic,
                output,
                timeout=timeout,
                folder=folder,
                no_wait=bool(waiting["no_wait"]),
                change=request,
            )

    return run_async(work)
