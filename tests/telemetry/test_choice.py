"""Whether a client has telemetry: without a provider it costs nothing, not even an import."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from llamagen_async import InvalidRequestError, LlamaGenClient
from llamagen_async.core import ClientCore
from llamagen_async.telemetry import Telemetry, choice
from llamagen_async.telemetry.core import ObservedCore

KEY = "a-key-of-the-tests"


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_of_all", [])


def core_class(telemetry: Any = None) -> type[ClientCore]:
    return type(LlamaGenClient(KEY, telemetry=telemetry)._core)


def test_a_client_has_none_if_no_provider_is_set() -> None:
    assert core_class() is ClientCore


@pytest.mark.parametrize("which", ["tracer", "meter"])
def test_a_client_has_it_if_a_provider_is_set(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if which == "tracer":
        monkeypatch.setattr(trace, "get_tracer_provider", TracerProvider)
    else:
        provider = MeterProvider()
        monkeypatch.setattr(metrics, "get_meter_provider", lambda: provider)
    assert core_class() is ObservedCore
    assert core_class(telemetry=False) is ClientCore


@pytest.mark.parametrize(
    "provider", [trace.NoOpTracerProvider(), trace.ProxyTracerProvider()], ids=["none", "proxy"]
)
def test_a_provider_that_does_nothing_is_none(
    provider: trace.TracerProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    assert core_class() is ClientCore


def test_all_clients_share_the_telemetry_of_the_global_providers() -> None:
    """Each would make the same instruments again, and an SDK warns of that."""
    cores = [LlamaGenClient(KEY, telemetry=True)._core for _ in range(2)]
    assert all(isinstance(core, ObservedCore) for core in cores)
    assert cores[0].observer is cores[1].observer


def test_telemetry_of_ones_own_is_used() -> None:
    telemetry = Telemetry()
    assert LlamaGenClient(KEY, telemetry=telemetry)._core.observer is telemetry.operations


@pytest.mark.parametrize("value", ["yes", 1, object()], ids=["text", "number", "object"])
def test_anything_else_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequestError, match="telemetry"):
        core_class(value)


def test_without_the_package_it_is_none_or_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert core_class() is ClientCore
    with pytest.raises(InvalidRequestError, match=r"pip install 'llamagen-async\[otel\]'"):
        core_class(telemetry=True)


@pytest.mark.once
def test_neither_the_package_nor_a_client_imports_it() -> None:
    code = (
        "import sys, llamagen_async\n"
        "client = llamagen_async.LlamaGenClient('a-key-of-the-tests')\n"
        "client.comics, llamagen_async.ComicQueue\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
