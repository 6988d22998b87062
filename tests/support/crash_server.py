"""The server of the crash tests, in a process of its own: it outlives those who are killed.

    python tests/crash/server.py '{"speed": 500, "latency": [0, 10], "faults": []}'

Prints its base URL and serves until stdin is closed.
"""

from __future__ import annotations

import asyncio
import json
import sys

from llamagen_async.sandbox import Durations, Fault, SandboxServer, SandboxService


async def serve(
    speed: float,
    latency: tuple[float, float],
    faults: list[str],
    seconds: float | None = None,
) -> None:
    durations = Durations.lognormal() if seconds is None else Durations.constant(seconds)
    service = SandboxService(faults=[Fault.parse(fault) for fault in faults], durations=durations)
    async with SandboxServer(service, speed=speed, latency=latency) as server:
        print(server.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(**json.loads(sys.argv[1])))
