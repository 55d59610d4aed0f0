"""The errors a user can cause or meet, each one sentence: what is wrong, the value, what to do.

DemoError
├── SettingsError     settings out of bounds; .problems maps each field to its sentence
├── ModelError        a model that is unknown, unsafe, incomplete or not a classifier's base
├── DataError         reviews that cannot be read or trained on
├── AdapterError      an adapter that does not load, or does not come back as it was saved
├── DeviceError       too little memory, or a device that is not there
│   ├── ProcessDied   a process of its own ended without a result
│   └── MemoryRanOut  in a training step; .suggestion maps settings to values that are predicted to fit
├── HubError          the Hub cannot be reached, or refuses
│   └── AlreadyThere  a model of this app is where another is to be published; whether it is to go is asked first
├── RunError          an unknown run, or one in a state that does not allow what was asked
│   └── ReportError   a run whose report cannot be read; other runs are none the worse
└── TrainingError     a run that must end: loss not finite, one class only, nothing to train on

Anything that is not a DemoError is unexpected: it is logged with its traceback and shown as "unexpected".
"""

from __future__ import annotations

import errno
from collections.abc import Mapping


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


class MemoryRanOut(DeviceError):
    """A training step did not fit. `suggestion`: the smallest change of the settings predicted to fit, by field; empty
    if there is none.
    """

    def __init__(self, sentence: str, suggestion: Mapping[str, object]):
        self.suggestion = suggestion
        super().__init__(sentence)


class ProcessDied(DeviceError):
    """A process of its own ended without a result; the sentence is the reason, for the caller to put into his own."""


class HubError(DemoError):
    """The Hub did not give what was asked."""


class AlreadyThere(HubError):
    """A model that this app has published stands where another is to go."""


class RunError(DemoError):
    """The run does not exist, or its state does not allow what was asked."""


class ReportError(RunError):
    """The run's report cannot be read: it is damaged, or of another kind."""


class TrainingError(DemoError):
    """The run had to end, for a reason worth reading."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out. By name: torch's own error is no MemoryError, and this floor does not import torch."""
    text = str(error)
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    words = ("can't allocate memory", "out of memory", "bad_alloc", "Cannot allocate memory")
    return known or (isinstance(error, RuntimeError) and any(word in text for word in words))


def is_disk_full(error: BaseException) -> bool:
    """Whether a disk or a quota is full. By words: what torch, safetensors and tokenizers raise then is no OSError."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    # The last two are all that torch.save has to say of a write that failed.
    words = ("No space left on device", "PytorchStreamWriter failed writing", "unexpected pos")
    return any(word in str(error) for word in words)
