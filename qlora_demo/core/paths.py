"""Local models and reviews in a run's settings: told apart from names on the Hub, checked before the run is submitted,
and made absolute, so that its worker finds them.

Knows what is on this disk, not what is in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from .errors import DataError, ModelError

ASSETS = Path(__file__).resolve().parents[2] / "assets"  # what the app carries: sample reviews, the shipped adapter
_PLAIN = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
DATA_FILES = (*_PLAIN, *(f"{suffix}.{packing}" for suffix in _PLAIN for packing in ("gz", "zip")), ".zip")


_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")


def is_hub_id(value: str) -> bool:
    """Whether `value` may be the name of a model on the Hub (huggingface_hub.utils.validate_repo_id), and no path."""
    return bool(_HUB_ID.fullmatch(value)) and ".." not in value and "--" not in value


def is_data_file(value: str) -> bool:
    """Whether `value` is called as files of reviews are, there or not; no data set of the Hub is."""
    return value.lower().endswith(DATA_FILES)


def absolute(name: str, value: str) -> str:
    """The setting `name` (model or data), a path made absolute: a waiting run is started from another folder, by
    another process.

    Anything but a path is handed back. Raises ModelError or DataError for a path where nothing is.
    """
    path = os.path.expanduser(value)
    if value == "sample":
        return value
    if os.path.isdir(path) or (name == "data" and os.path.exists(path)):
        return os.path.abspath(path)
    if name == "data" and is_data_file(value):
        raise DataError(f"The reviews {value} are not there; give a file that exists, `sample`, or a Hub data set.")
    if name == "model" and value.startswith((".", "/", "~")):
        raise ModelError(f"The model folder {value} is not there; give one that exists, `sample`, or a Hub id.")
    return value


def absolute_settings(fields: Mapping[str, object]) -> dict[str, object]:
    """Settings by name, those that may be paths made absolute. Raises ModelError or DataError for a path where nothing
    is.
    """
    settings = dict(fields)
    for name in ("model", "data"):
        if isinstance(value := settings.get(name), str):
            settings[name] = absolute(name, value)
    adapter = settings.get("start_from")
    # The name of a run is no path, even where a folder is called so.
    if isinstance(adapter, str) and os.sep in adapter and os.path.isdir(os.path.expanduser(adapter)):
        settings["start_from"] = os.path.abspath(os.path.expanduser(adapter))
    return settings
