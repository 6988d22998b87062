"""The diagnosis of a setting: what works, what does not, and what the server meters.

`judgements` and `metering` judge what was found and do no I/O; `network`, `stores`, `versions` and
`measuring` find out. `examination` goes through all of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llamagen_async.diagnosis.examination import Examination, Settings
    from llamagen_async.diagnosis.findings import Finding, Level
    from llamagen_async.diagnosis.measuring import ObservedTransport, measure
    from llamagen_async.diagnosis.metering import STEPS, Metering, PlanSetting

__all__ = [
    "STEPS",
    "Examination",
    "Finding",
    "Level",
    "Metering",
    "ObservedTransport",
    "PlanSetting",
    "Settings",
    "measure",
]

_MODULES = {
    "STEPS": "metering",
    "Examination": "examination",
    "Finding": "findings",
    "Level": "findings",
    "Metering": "metering",
    "ObservedTransport": "measuring",
    "PlanSetting": "metering",
    "Settings": "examination",
    "measure": "measuring",
}
"""The modules of the exports, loaded when they are used: who proves a store sends nothing."""

if not TYPE_CHECKING:  # else type checkers would take any name for an export

    def __getattr__(name):
        """Load an export when it is first used."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value
