"""Judgements of what was found: how bad it is, and what to do about it. No I/O: all is told."""

from __future__ import annotations

from typing import Final

import attrs

from llamagen_async.diagnosis.findings import Finding, ok, problem, warning
from llamagen_async.diagnosis.versions import Versions
from llamagen_async.models import Usage
from llamagen_async.plan_detection import plan_for
from llamagen_async.plans import Plan, RateLimit, RequestKind
from llamagen_async.ratelimit import LimitsSnapshot

__all__ = [
    "FoundKey",
    "judge_clock",
    "judge_key",
    "judge_limits",
    "judge_plan",
    "judge_usage",
    "judge_versions",
]

_TOLERANCE: Final = 300.0
"""Seconds by which a webhook event's time may differ (vendor's clients)."""
_NOTICEABLE: Final = 30.0
"""Seconds of clock skew from which on it is worth a word: a tenth of the tolerance (chosen)."""
_LONG: Final = 3_600.0
"""Seconds from which on a window is one whose requests are budgeted."""
_COMIC: Final = 2
"""Requests that a comic takes at least."""


@attrs.frozen
class FoundKey:
    """The API key, as far as it is told of: its place and its form."""

    source: str
    """Place in which it was found."""
    length: int = 0
    """Characters of the key; 0 if there is none."""
    is_vendors: bool = False
    """Whether it begins as the vendor's keys do."""
    was_trimmed: bool = False
    """Whether white space or quotes were around it."""
    error: str = ""
    """The reason for which it can't be a key; empty if it can."""
    is_readable: bool = False
    """Whether others on this machine can read the file that it is in."""


def judge_versions(versions: Versions) -> list[Finding]:
    """Judge what is installed."""
    libraries = {name: version for name, version in versions.libraries.items() if version}
    listed = ", ".join(f"{name} {version}" for name, version in libraries.items())
    text = f"llamagen-async {versions.package}, {versions.python}, {listed}, {versions.tls}"
    facts = {"package": versions.package, "python": versions.python, "libraries": libraries}
    found = [ok("versions", text, **facts)]
    if versions.extras:
        there = [name for name, is_there in versions.extras.items() if is_there]
        missing = [name for name, is_there in versions.extras.items() if not is_there]
        text = f"installed: {', '.join(there) or 'none'}"
        if missing:
            command = f'python -m pip install "llamagen-async[{",".join(missing)}]"'
            text += f"; not installed: {', '.join(missing)} ({command})"
        found.append(ok("extras", text, installed=there, missing=missing))
    return found


def judge_key(key: FoundKey, *, at_vendor: bool) -> Finding:
    """Judge the form of a key.

    Args:
        key: What is told of it.
        at_vendor: Whether it is meant for the vendor's own server.
    """
    if key.error:
        return problem("key", f"{key.source}: {key.error}", "copy it again from the vendor's site")
    if not key.length:
        advice = "set LLAMAGEN_API_KEY; the sandbox and the demo need no real one"
        return problem("key", "there is none, so nothing is sent", advice)
    begins = "begins with sk-" if key.is_vendors else "does not begin with sk-"
    text = f"{key.source}: {begins}, {key.length} characters"
    facts = {"source": key.source, "length": key.length}
    if key.is_readable:
        return warning("key", f"{text}; others can read that file", "chmod 600 the file", **facts)
    if at_vendor and not key.is_vendors:
        advice = "check that it is the API key of llamagen.ai: those begin with sk-"
        return warning("key", text, advice, **facts)
    if key.was_trimmed:
        advice = "take off what is around it: other programs may not do that"
        return warning("key", f"{text}; quotes or white space around it", advice, **facts)
    return ok("key", text, **facts)


def judge_clock(ahead: float, margin: float) -> Finding:
    """Judge by how much the server's clock is ahead of this machine's.

    Args:
        ahead: Seconds; negative if it is behind.
        margin: Seconds by which that may be wrong.
    """
    side = "ahead of" if ahead > 0 else "behind"
    text = f"the server's is {abs(ahead):.0f} s {side} ours, within {margin:.0f} s"
    facts = {"server_ahead": round(ahead, 1), "margin": round(margin, 1)}
    if abs(ahead) <= max(margin, 2.0):
        return ok("clock", f"agrees with the server's within {max(margin, 2.0):.0f} s", **facts)
    if abs(ahead) < _NOTICEABLE:
        return ok("clock", f"{text}: webhooks allow {_TOLERANCE:.0f} s", **facts)
    advice = "set this machine's clock (NTP), or see whether the server's is the one that is wrong"
    if abs(ahead) < _TOLERANCE:
        consequence = f"webhook events that come late are refused: {_TOLERANCE:.0f} s are allowed"
        return warning("clock", f"{text}; {consequence}", advice, **facts)
    consequence = f"every webhook event is refused: {_TOLERANCE:.0f} s are allowed"
    return problem("clock", f"{text}; {consequence}", advice, **facts)


def judge_limits(
    snapshot: LimitsSnapshot, *, needed: int, is_auto: bool = False
) -> tuple[Finding, str]:
    """Judge what may still be sent, by this machine's count.

    Args:
        snapshot: What the ledger knows.
        needed: Requests that are to be sent.
        is_auto: Whether the plan is not known yet, and the server has to be asked for it.

    Returns:
        The finding, and why they are not sent; `""` if they may be.
    """
    windows = "; ".join(
        f"{_words(one.limit)}: {one.used} used, {one.free} free" for one in snapshot.windows
    )
    others = snapshot.clients
    shared = f"; {others} clients of this key are at work" if others > 1 else ""
    text = f"{windows}{shared}{'; as on the demo plan until the server is asked' * is_auto}"
    facts = {
        "clients": others,
        "windows": [
            {"limit": one.limit.limit, "per": one.limit.per, "used": one.used, "free": one.free}
            for one in snapshot.windows
        ],
    }
    if snapshot.paused_for > 0:
        text = f"the server asked to wait {snapshot.paused_for:.0f} s more; {text}"
        return warning("limits", text, "wait until then", **facts), "the server asked to wait"
    left = min((one.free for one in snapshot.windows if one.limit.per >= _LONG), default=None)
    # A comic takes a create and a check at least: those are left.
    if not is_auto and left is not None and left < needed + _COMIC:
        why = f"{left} requests are left of the day"
        advice = "wait for the next day, or name the key's plan with --plan if it has no such limit"
        return warning("limits", text, advice, **facts), why
    return ok("limits", text, **facts), ""


def judge_plan(plan: Plan, source: str, usage: Usage | None) -> Finding:
    """Judge the plan that is kept, by what the server says of the key.

    Args:
        plan: The plan, as it was set.
        source: Who has set it; `auto` if the server is asked.
        usage: The server's answer; `None` if it was not asked.
    """
    is_auto = source == "auto"
    kept = plan_for(usage) if is_auto and usage is not None else plan
    limits = " and ".join(map(_words, kept.limits))
    free = [kind.value for kind in RequestKind if kind not in plan.metered]
    counted = f"all requests count but {', '.join(free)}" if free else "all requests count"
    text = f"{kept.name} ({source}): {limits}; {counted}"
    facts: dict[str, object] = {"plan": kept.name, "source": source}
    facts["metered"] = sorted(plan.metered)
    paid = None if usage is None else usage.is_paid_plan
    if paid is None:
        why = "not asked" if usage is None else "it does not say"
        return ok("plan", f"{text}; by the server: {why}", **facts)
    facts["server_says_paid"] = paid
    if is_auto or plan.limits not in (Plan.DEMO.limits, Plan.PAID.limits):
        return ok("plan", f"{text}; by the server: {'paid' if paid else 'not paid'}", **facts)
    if paid and plan.limits == Plan.DEMO.limits:
        advice = "--plan paid (LLAMAGEN_PLAN=paid) sends 10 requests a minute"
        text = f"{text}; by the server the key is on the paid plan"
        return warning("plan", text, advice, **facts)
    if not paid and plan.limits == Plan.PAID.limits:
        advice = "--plan demo (LLAMAGEN_PLAN=demo), or requests are refused"
        return problem("plan", f"{text}; by the server the key is not on it", advice, **facts)
    return ok("plan", f"{text}; the server says the same", **facts)


def judge_usage(usage: Usage, snapshot: LimitsSnapshot) -> Finding:
    """Judge what the server has counted, beside what this machine has.

    Args:
        usage: The server's answer.
        snapshot: What the ledger knows, that question included.
    """
    used, most, left = usage.api_usage_count, usage.api_max_usage, usage.credits
    parts: list[str] = []
    if used is not None:
        parts.append(f"requests counted: {used}" + (f" of {most}" if most is not None else ""))
    if left is not None:
        parts.append(f"credits left: {left:.12g}")
    text = ", ".join(parts) or "the server tells nothing that is known here"
    facts = {"api_usage_count": used, "api_max_usage": most, "credits": left}
    if usage.is_paid_plan and left is not None and left <= 0:
        return warning("usage", text, "buy credits: creates are refused without", **facts)
    ours = max((one.used for one in snapshot.windows if one.limit.per >= _LONG), default=None)
    if used is not None and ours is not None and used > ours:
        text = f"{text}; this machine knows of {ours}"
        advice = (
            "other programs or machines use this key: share one count with --quota redis://..., "
            "or take over the server's with --plan auto"
        )
        return warning("usage", text, advice, **facts)
    return ok("usage", text, **facts)


def _words(limit: RateLimit) -> str:
    return str(limit).replace(" per ", " a ", 1)
