"""The diagnosis of a setting: what works, what does not, and what the server meters.

`judgements` and `metering` judge what was found and do no I/O; `network`, `stores`, `versions` and
`measuring` find out. `examination` goes through all of it.
"""

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
