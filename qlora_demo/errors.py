"""The errors a user can cause or meet, each one sentence: what is wrong, the value, what to do.

DemoError
├── SettingsError     settings out of bounds; .problems maps each field to its sentence
├── ModelError        a model that is unknown, unsafe, incomplete or not a classifier's base
├── DataError         reviews that cannot be read or trained on
├── AdapterError      an adapter that does not load, or does not come back as it was saved
├── DeviceError       too little memory, or a device that is not there
├── HubError          the Hub cannot be reached, or refuses
├── RunError          an unknown run, or one in a state that does not allow what was asked
└── TrainingError     a run that must end: loss not finite, one class only, nothing to train on

Anything that is not a DemoError is unexpected: it is logged with its traceback and shown as "unexpected".
"""

from __future__ import annotations


class DemoError(Exception):
    """Base of all expected errors; `str(error)` is the sentence shown to the user."""


class SettingsError(DemoError):
    """One or more settings are wrong.

    `problems` maps a field's name to one sentence; `str()` joins all of them.
    """

    def __init__(self, problems: dict[str, str]):
        self.problems = dict(problems)
        super().__init__(" ".join(self.problems.values()))


class ModelError(DemoError):
    """The model cannot be used."""


class DataError(DemoError):
    """The reviews cannot be used."""


class AdapterError(DemoError):
    """The adapter cannot be used."""


class DeviceError(DemoError):
    """The device cannot do what was asked."""


class HubError(DemoError):
    """The Hub did not give what was asked."""


class RunError(DemoError):
    """The run does not exist, or its state does not allow what was asked."""


class TrainingError(DemoError):
    """The run had to end, for a reason worth reading."""
