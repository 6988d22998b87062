"""Judgements of the way to the server and of the stores, with what to do about them. No I/O."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from llamagen_async.diagnosis.findings import Finding, ok, problem, warning
from llamagen_async.diagnosis.network import Reach
from llamagen_async.diagnosis.stores import StoreFacts

__all__ = ["judge_proxy", "judge_reach", "judge_store"]

_ENDS_SOON: Final = timedelta(days=14)
"""Time before a certificate's end from which on it is worth a word (chosen)."""
_SKEW: Final = 5.0
"""Seconds of skew of a store's clock that are worth a word: its clock keeps the windows."""


def judge_proxy(proxy: str | None, source: str, *, is_loopback: bool) -> Finding:
    """Judge which proxy is used.

    Args:
        proxy: Its host and port; `None` if none is used.
        source: What says so: an option or variables of the environment.
        is_loopback: Whether the API is on this machine.
    """
    if proxy is not None:
        return ok("proxy", f"{proxy} ({source})", proxy=proxy, source=source)
    if is_loopback and source != "--proxy":
        return ok("proxy", "none: the API is on this machine", proxy=None)
    return ok("proxy", f"none ({source})", proxy=None, source=source)


def judge_reach(
    reach: Reach, now: datetime, *, uses_tls: bool, through_proxy: bool
) -> list[Finding]:
    """Judge how far one gets on the way to the server.

    Args:
        reach: How far.
        now: The time.
        uses_tls: Whether the API's URL is of https.
        through_proxy: Whether a proxy is on the way.
    """
    found: list[Finding] = []
    who = f"the proxy {reach.host}" if through_proxy else reach.host
    if reach.failed_at == "name":
        advice = (
            "check --proxy, HTTPS_PROXY and HTTP_PROXY"
            if through_proxy
            else "check --base-url (LLAMAGEN_API_URL), and that this machine is online"
        )
        return [problem("name", f"{who} is not known: {reach.reason}", advice)]
    listed = ", ".join(reach.addresses[:3])
    more = f" and {len(reach.addresses) - 3} more" if len(reach.addresses) > 3 else ""  # noqa: PLR2004  # those that are listed
    if list(reach.addresses) != [reach.host]:
        found.append(ok("name", f"{who} is {listed}{more}", addresses=list(reach.addresses)))
    if reach.failed_at == "connection":
        advice = (
            "start the proxy, or name another with --proxy; --proxy '' goes without"
            if through_proxy
            else "check --base-url, firewalls, and whether a proxy is needed (--proxy)"
        )
        return [*found, problem("connection", f"none to {who}: {reach.reason}", advice)]
    took = f"in {(reach.connected_in or 0) * 1000:.0f} ms"
    found.append(ok("connection", f"to {who} {took}", seconds=reach.connected_in))
    if reach.failed_at == "proxy":
        advice = reach.advice or "check the proxy's user, password and rules"
        return [*found, problem("tunnel", reach.reason, advice)]
    if not uses_tls:
        return [*found, ok("tls", "none: plain http, which is allowed on this machine only")]
    if reach.failed_at == "tls":
        advice = reach.advice or "check --base-url, and what is on the way"
        return [*found, problem("tls", reach.reason, advice)]
    return [*found, _certificate(reach, now)]


def _certificate(reach: Reach, now: datetime) -> Finding:
    ends = reach.certificate_ends
    signed = f", signed by {reach.issuer}" if reach.issuer else ""
    if ends is None:
        return ok("tls", f"{reach.tls}{signed}", version=reach.tls)
    text = f"{reach.tls}{signed}; the certificate ends {ends:%Y-%m-%d}"
    facts = {"version": reach.tls, "issuer": reach.issuer, "certificate_ends": ends.isoformat()}
    if ends - now < _ENDS_SOON:
        left = f"in {max(0, (ends - now).days)} days"
        advice = "its owner has to renew it; afterwards nothing gets through"
        return warning("tls", f"{text}, {left}", advice, **facts)
    return ok("tls", text, **facts)


def judge_store(facts: StoreFacts) -> Finding:
    """Judge the store of spent requests."""
    subject, redis = "store", facts.redis
    if facts.is_memory:
        advice = "leave out --quota memory (LLAMAGEN_QUOTA), and commands know of each other"
        return warning(subject, "each command forgets what it has spent", advice)
    if facts.error is not None:
        advice = "name another one with --quota; --quota memory counts in each command only"
        said = facts.error.removeprefix(f"{facts.shown}: ")
        return problem(subject, f"{facts.shown}: {said}", advice, store=facts.shown)
    if redis is None:
        return ok(subject, f"{facts.shown} can be written", store=facts.shown)
    parts = [f"Redis {redis.version}" if redis.version else "Redis"]
    if redis.ping is not None:
        parts.append(f"answers in {redis.ping * 1000:.0f} ms")
    if redis.ahead is not None:
        is_near = abs(redis.ahead) < 1
        parts.append("its clock is ours" if is_near else f"its clock is {redis.ahead:+.0f} s off")
    if redis.has_log is not None:
        parts.append("keeps a log" if redis.has_log else "keeps no log")
    text = f"{facts.shown}: {', '.join(parts)}"
    told = {"store": facts.shown, "version": redis.version, "ahead": redis.ahead}
    if redis.policy not in (None, "noeviction"):
        advice = "set maxmemory-policy noeviction, or it may forget what was spent"
        return warning(subject, f"{text}, drops keys when full ({redis.policy})", advice, **told)
    if redis.has_log is False:
        advice = "set appendonly yes: a restart forgets what was spent, and all wait"
        return warning(subject, text, advice, **told)
    if redis.ahead is not None and abs(redis.ahead) > _SKEW:
        advice = "its clock keeps the count, so that is safe; set the clock that is wrong"
        return warning(subject, text, advice, **told)
    return ok(subject, text, **told)
