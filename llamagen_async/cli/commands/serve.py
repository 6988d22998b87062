"""`llamagen-async serve`: orders for comics over HTTP, with a page to try them, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Generator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from llamagen_async.cli.commands.options import Connection
from llamagen_async.cli.exit_status import ALL_DONE, FAILED, CommandError
from llamagen_async.cli.interrupts import run_async
from llamagen_async.cli.output import Output
from llamagen_async.cli.results.folder import prepared_folder

if TYPE_CHECKING:
    from llamagen_async.web import ComicsApp

__all__ = ["serve"]

_NEEDED: Final = ("starlette", "sse_starlette", "uvicorn")
"""The packages that the extra `web` installs."""
_DEADLINE: Final = 5
"""Real seconds that requests have to end when the server closes; then they are cut off."""
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


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
    """Serve the routes of llamagen_async.web, and a page to try them."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise CommandError(
            f"{' and '.join(missing)} missing: install the server with "
            "pip install 'llamagen-async[web]'"
        )
    from llamagen_async.web import create_app  # noqa: PLC0415  # needs the extra
    from llamagen_async.web.service import MAX_QUEUED  # noqa: PLC0415

    folder = prepared_folder(out)
    client = connection.client(webhooks=bool((webhook_secret or "").strip()))
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
