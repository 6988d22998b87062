"""Webhook deliveries a second on one core, beside the standard library alone in the same run.

    python benchmarks/webhooks.py [--quick]

Each delivery is a signed body with the headers that a web framework hands on. The peer computes the
HMAC, compares it and reads the JSON, and nothing else: no timestamp, no search for the headers in
any case, no event. The bound that the project has set itself is 10,000 deliveries a second, which
are verified, told from replays and kept. One that ends a wait also teaches how long comics take,
which costs more than all else and happens once for each comic.

Rates are of processor time, and each is the best of all runs: others may use the core meanwhile.
Prints a table, writes `benchmarks/results/webhooks.json`, asserts nothing.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any, Final

from _report import is_quick, print_table, write_json

from llamagen_async.sandbox import SandboxService
from llamagen_async.simulation import run, simulated_client
from llamagen_async.webhooks import ReplayGuard, WebhookEvent, construct_event, sign

SECRET: Final = "whsec_benchmark"
BOUND: Final = 10_000
"""Deliveries a second."""
PANELS: Final = (0, 4, 20)
"""Panels of the comics in the events; 0 for events that have the id and the status only."""
OTHER_HEADERS: Final = {
    "Host": "backend.example",
    "User-Agent": "LlamaGen-Webhooks/1.0",
    "Content-Type": "application/json",
    "Content-Length": "1024",
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate, br",
    "X-Forwarded-For": "192.0.2.7",
    "X-Forwarded-Proto": "https",
    "X-Request-Id": "0f8fad5b-d9cb-469f-a165-70867728950e",
}

Delivery = tuple[bytes, dict[str, str]]


def deliveries(number: int, panels: int) -> list[Delivery]:
    made: list[Delivery] = []
    for n in range(number):
        data: dict[str, Any] = {"id": f"cmc_{n:020x}", "status": "SUCCEEDED"}
        if panels:
            url = "https://cdn.example.com/comics/0f8fad5b-d9cb-469f-a165-70867728950e"
            drawn = [
                {"panel": at, "assetUrl": f"{url}/{at}.png", "caption": "A cat finds a hat. " * 5}
                for at in range(panels)
            ]
            data |= {"output": f"{url}/0.png", "comics": [{"page": 0, "panels": drawn}]}
        event = {"id": f"evt_{n}", "type": "comic.generation.completed", "created": 1_700_000_000}
        body = json.dumps({**event, "data": data}).encode()
        made.append((body, {**OTHER_HEADERS, **sign(body, SECRET)}))
    return made


def bare(body: bytes, headers: dict[str, str]) -> Any:
    """Verify and read with the standard library alone."""
    signed = headers["X-Llama-Webhook-Timestamp"].encode() + b"." + body
    expected = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    given = headers["X-Llama-Webhook-Signature"].removeprefix("v1=")
    if not hmac.compare_digest(expected, given):
        raise ValueError
    return json.loads(body)


def read(body: bytes, headers: dict[str, str]) -> WebhookEvent:
    return construct_event(body, headers, SECRET)


def a_second(work: Callable[[bytes, dict[str, str]], Any], given: list[Delivery]) -> float:
    gc.collect()
    begun = time.process_time()
    for body, headers in given:
        work(body, headers)
    return len(given) / (time.process_time() - begun)


async def handled(given: list[Delivery], *, waited_for: bool) -> float:
    """Return deliveries a second to a client; the time of the waits' own tasks is in it."""
    async with simulated_client(SandboxService(), webhooks=True) as client:
        guard = ReplayGuard()
        waiting = [
            asyncio.create_task(client.comics.wait_for_completion(f"cmc_{n:020x}"))
            for n in range(len(given) if waited_for else 0)
        ]
        await asyncio.sleep(0)

        def handle(body: bytes, headers: dict[str, str]) -> None:
            event = construct_event(body, headers, SECRET)
            if guard.claim(event):
                client.deliver(event)

        begun = time.process_time()
        rate = a_second(handle, given)
        if waited_for:
            await asyncio.gather(*waiting)
            rate = len(given) / (time.process_time() - begun)
        return rate


def main() -> None:
    quick = is_quick(__doc__)
    number, repeats = (500, 3) if quick else (500, 40)
    rows: list[dict[str, Any]] = []
    for panels in PANELS:
        rates: dict[str, list[float]] = {}
        for _ in range(repeats):
            given = deliveries(number, panels)
            measured = {
                "bare": a_second(bare, given),
                "verified": a_second(read, given),
                "kept": run(handled(given, waited_for=False)),
                # Without pictures each wait ends with a status check, which has its own limit.
                "ended": run(handled(given, waited_for=True)) if panels else None,
            }
            for name, rate in measured.items():
                if rate is not None:
                    rates.setdefault(name, []).append(rate)
        rows.append(
            {
                "panels": panels,
                "bytes": len(deliveries(1, panels)[0][0]),
                **{name: round(max(several)) for name, several in rates.items()},
                "bound": BOUND,
                "held": "yes" if max(rates["kept"]) >= BOUND else "NO",
            }
        )
    columns = ("panels", "bytes", "bare", "verified", "kept", "ended", "bound", "held")
    print_table(
        "Webhook deliveries a second on one core",
        columns,
        [[row.get(name) for name in columns] for row in rows],
        "bare: hmac and json.loads alone. verified: construct_event. kept: also told from replays",
        "and delivered, and nobody waits. ended: somebody waits, and the wait has ended.",
    )
    report = {"runs": repeats, "deliveries_a_second": rows}
    write_json("webhooks", ("llamagen-async", "attrs"), report, quick=quick)


if __name__ == "__main__":
    main()
