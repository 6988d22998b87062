"""`llamagen-async serve`: orders for comics over HTTP, with a page to try them, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Generator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import click

from llamagen_async.cli.commands.options import (
    Connection,
    connection_options,
    output_options,
    prepared_folder,
)
from llamagen_async.cli.exit_status import ALL_DONE, FAILED, CommandError
from llamagen_async.cli.interrupts import run_async
from llamagen_async.cli.output import Output

if TYPE_CHECKING:
    from llamagen_async.web import ComicsApp

__all__ = ["serve"]

_NEEDED: Final = ("starlette", "sse_starlette", "uvicorn")
"""The packages that the extra `web` installs."""
_DEADLINE: Final = 5
"""Real seconds that requests have to end when the server closes; then they are cut off."""
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


@click.command(short_help="Take orders for comics over HTTP.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: a free one."
)
@click.option(
    "--out",
    metavar="DIR",
    envvar="LLAMAGEN_OUT",
    show_envvar=True,
    default="comics",
    show_default=True,
    help="Fetch the pictures into this folder.",
)
@click.option(
    "--journal",
    metavar="FILE",
    envvar="LLAMAGEN_JOURNAL",
    help="Remember the orders in this file.  [env var: LLAMAGEN_JOURNAL; default: journal.db in "
    "DIR]",
)
@click.option(
    "--webhook-secret",
    metavar="S",
    envvar="LLAMAGEN_WEBHOOK_SECRET",
    show_envvar=True,
    help="The secret with which the vendor signs its events, sent to /webhooks.",
)
@click.option(
    "--max-queued",
    type=click.IntRange(1),
    metavar="N",
    help="Refuse more orders with 503 while so many wait.  [default: 1000]",
)
@output_options
@connection_options
def serve(
    *,
    host: str,
    port: int,
    out: str,
    journal: str | None,
    webhook_secret: str | None,
    max_queued: int | None,
    connection: Connection,
    output: Output,
) -> int:
    """Serve the routes of llamagen_async.web, and a page to try them.

    Orders are on disk before they are confirmed; Ctrl-C ends the server in order, and the next one
    goes on. Only programs on this machine are answered: to serve others, mount the routes in an
    application of yours with create_app(authorize=...).
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise CommandError(
            f"{' and '.join(missing)} missing: install the server with "
            "pip install 'llamagen-async[web]'"
        )
    from llamagen_async.web import create_app  # noqa: PLC0415  # needs the extra
    from llamagen_async.web.service import MAX_QUEUED  # noqa: PLC0415

    folder = prepared_folder(out)
    client = connection.client(webhooks=bool(webhook_secret))
    app = create_app(
        client,
        journal=journal or folder / "journal.db",
        out=folder,
        webhook_secret=webhook_secret,
        max_queued=MAX_QUEUED if max_queued is None else max_queued,
    )

    async def work() -> int:
        await connection.prove_quota()
        async with client:
            return await _serve(app, host, port, output)

    return run_async(work)


async def _serve(app: ComicsApp, host: str, port: int, output: Output) -> int:
    import uvicorn  # noqa: PLC0415  # needs the extra

    class Server(uvicorn.Server):
        """Leaves signals to the command line, which ends all commands alike."""

        @contextlib.contextmanager
        def capture_signals(self) -> Generator[None, None, None]:
            yield

    try:
        listening = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        output.error(f"no server on {host} port {port}: {reason}")
        return FAILED
    # asyncio does so only for sockets that it has made; without it each answer waits for 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with listening:
        config = uvicorn.Config(
            app,
            lifespan="off",  # entered here, so that an error is one line and not a traceback
            log_config=None,
            access_log=False,
            proxy_headers=False,  # whoever comes by a proxy is not of this machine
            timeout_graceful_shutdown=_DEADLINE,
        )
        server = Server(config)
        async with app.lifespan():
            _introduce(listening, output)
            serving = asyncio.create_task(server.serve([listening]))
            try:
                await asyncio.shield(serving)
            except asyncio.CancelledError:
                app.service.draining.set()
                server.should_exit = True
                await serving
                output.print("The server has ended; what is not done goes on with the next one.")
    return ALL_DONE


def _introduce(listening: socket.socket, output: Output) -> None:
    host, port = listening.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    output.emit_json({"url": url})
    if output.as_json:
        return
    output.print(f"Comics at {url}: open it in a browser, or POST to {url}/comics")
    if host not in _LOOPBACK:
        output.print(
            "Only programs on this machine are answered: who serves others has to say whom, with "
            "create_app(authorize=...)"
        )
    output.print("Ctrl-C ends it.")
