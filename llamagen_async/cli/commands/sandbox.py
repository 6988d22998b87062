"""`llamagen-async sandbox`: a stand-in for the API on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import importlib.util
import secrets
from collections.abc import Mapping
from typing import Any, Final, cast

import attrs

from llamagen_async.cli.exit_status import ALL_DONE, FAILED, CommandError
from llamagen_async.cli.interrupts import run_async
from llamagen_async.cli.output import Output
from llamagen_async.cli.text import format_limit, pluralize
from llamagen_async.plans import Plan
from llamagen_async.sandbox import (
    DEMO_KEY,
    EMPTY_KEY,
    FAULTS,
    PAID_KEY,
    Algorithm,
    Dialect,
    EventData,
    Fault,
    SandboxServer,
    SandboxService,
    Webhook,
)
from llamagen_async.validation import InvalidRequestError

__all__ = ["sandbox"]

_SEEDS: Final = 1_000_000
"""Seeds of which one is taken if none is named."""


def sandbox(
    *,
    port: int,
    algorithm: str,
    speed: float,
    dialect: str,
    seed: int | None,
    metered: str | None,
    latency: str,
    failure_rate: float,
    webhook: str | None,
    webhook_secret: str | None,
    webhook_data: str,
    fault: tuple[str, ...],
    output: Output,
) -> int:
    """Run a stand-in for the LlamaGen Comic API that enforces its limits for real."""
    plans = {PAID_KEY: Plan.PAID, DEMO_KEY: Plan.DEMO}
    if metered is not None:
        plans = {key: attrs.evolve(plan, metered=metered) for key, plan in plans.items()}
    faults = [Fault.parse(one) for one in fault]
    service = SandboxService(
        plans=plans,
        algorithm=cast("Algorithm", algorithm),
        dialect=cast("Dialect", dialect),
        # Else a sandbox that is started anew gives out ids that stand in journals already.
        seed=secrets.randbelow(_SEEDS) if seed is None else seed,
        failure_rate=failure_rate,
        faults=faults,
    )
    endpoint = None
    if webhook is not None:
        if not webhook_secret:
            raise CommandError("--webhook: events are signed, so --webhook-secret is needed")
        try:
            endpoint = Webhook(webhook, webhook_secret, cast("EventData", webhook_data))
        except InvalidRequestError as error:
            raise InvalidRequestError("webhook", error.value, error.allowed) from None
    elif of_events := [str(one) for one in faults if FAULTS[one.name].is_of_events]:
        raise CommandError(f"--fault {of_events[0]}: there are no events without --webhook")
    server = SandboxServer(
        service, port=port, speed=speed, latency=_seconds(latency), webhook=endpoint
    )
    return run_async(lambda: _serve(server, output))


async def _serve(server: SandboxServer, output: Output) -> int:
    try:
        async with server:
            _introduce(server, output)
            try:
                # A reader of stdout who leaves has seen the address: the server goes on.
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                _summarise(server.service.stats(server.now()), output)
    except OSError as error:
        output.error(f"no server on port {server.url}: {error.strerror or error}")
        return FAILED
    return ALL_DONE


def _introduce(server: SandboxServer, output: Output) -> None:
    service, speed = server.service, server.speed
    plans = {PAID_KEY: Plan.PAID, DEMO_KEY: Plan.DEMO, EMPTY_KEY: Plan.PAID}
    output.emit_json(
        {
            "url": server.url,
            "keys": {key: plan.name for key, plan in plans.items()},
            "speed": speed,
            "algorithm": service.algorithm,
            "dialect": service.dialect,
            "seed": service.seed,
            "faults": list(service.faults.counts()),
            "openapi": server.openapi_url,
        }
    )
    if output.as_json:
        return
    output.print(f"Sandbox of the LlamaGen Comic API at {server.url}")
    pace = "in real time" if speed == 1 else f"{speed:g} times as fast as real time"
    output.print(
        f"  counts by {service.algorithm}, speaks the {service.dialect} dialect, "
        f"seed {service.seed}, {pace}"
    )
    output.print(f"  describes itself at {server.openapi_url}")
    if faults := service.faults.counts():
        output.print(f"  goes wrong: {', '.join(faults)}")
    for key, plan in plans.items():
        limits = " and ".join(map(format_limit, plan.limits))
        funds = ", no credits" if key == EMPTY_KEY else ""
        output.print(f"  key {key:<14} {limits}{funds}")
    if importlib.util.find_spec("PIL") is None:
        output.print("  no pictures: they need pip install 'llamagen-async[sandbox]'")
    faster = "" if speed == 1 else f" --speed {speed:g}"
    output.print("Try it from another terminal:")
    output.print(
        f'  llamagen-async generate "A cat meets a dragon" --out comics '
        f"--base-url {server.url} --api-key {PAID_KEY} --plan paid{faster}"
    )
    settings = {"API_URL": server.url, "API_KEY": PAID_KEY, "PLAN": "paid"}
    if speed != 1:
        settings["SPEED"] = f"{speed:g}"
    said = " ".join(f"LLAMAGEN_{name}={value}" for name, value in settings.items())
    output.print(f"Or tell it all commands and programs of that terminal:\n  export {said}")
    output.print("Ctrl-C ends it.")


def _summarise(stats: Mapping[str, Any], output: Output) -> None:
    output.emit_json(stats)
    if output.as_json:
        return
    used = {key: seen for key, seen in stats["keys"].items() if seen["total"]}
    output.print()
    if webhooks := stats.get("webhooks"):
        counts = ", ".join(f"{number} {name}" for name, number in webhooks.items())
        output.print(f"Webhook events: {counts}")
    if faults := stats["faults"]:
        counts = ", ".join(f"{fault} {pluralize(n, 'time')}" for fault, n in faults.items())
        output.print(f"Went wrong: {counts}")
    if not used:
        output.print("No request came.")
    for key, seen in used.items():
        peaks = ", ".join(
            f"at most {window['most']} of {window['limit']} in {window['per']:g} s"
            for window in seen["windows"]
        )
        output.print(
            f"{key}: {pluralize(seen['total'], 'request')}, {seen['refused']} refused with 429, "
            f"{pluralize(seen['creates_accepted'], 'comic')} started; {peaks}"
        )


def _seconds(given: str) -> tuple[float, float]:
    least, _, most = given.partition("-")
    try:
        return float(least), float(most or least)
    except ValueError:
        raise CommandError(
            f"--latency: got {given!r}, allowed is seconds (0.3) or two of them (0.1-0.5)"
        ) from None
