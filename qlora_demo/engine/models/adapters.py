"""Where an adapter lies: the shipped one, a run's, one in a folder, one of the Hub.

Loads torch only for one of the Hub, which is checked: the commands that copy an adapter need none.
"""

from __future__ import annotations

import json
from pathlib import Path

from ...core.cancellation import OnProgress, ShouldStop
from ...core.errors import AdapterError
from ...core.paths import ASSETS


def find_adapter(
    adapter: str,
    runs_home: Path | None = None,
    *,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> Path:
    """The folder of `sample`, a run's id (where it has an adapter), a folder, or a Hub id (user/name, or
    user/name@revision).

    One of the Hub is fetched and checked first (hubadapters.py). Raises AdapterError, and what `fetch_adapter` raises.
    """
    if adapter == "sample":
        return ASSETS / "adapter"
    if runs_home is not None and adapter == Path(adapter).name and (runs_home / adapter / "config.json").is_file():
        folder = runs_home / adapter / "adapter"
        if not folder.is_dir():
            raise AdapterError(
                f"The run {adapter} has no adapter: one is saved only after success or a clean stop; choose another"
                " run."
            )
        return folder
    if Path(adapter).is_dir():
        return Path(adapter).resolve()
    from . import hubadapters

    if hubadapters.is_hub_name(adapter):
        return hubadapters.fetch_adapter(adapter, on_progress=on_progress, should_stop=should_stop)
    raise AdapterError(
        f"There is no adapter {adapter!r}; give `sample`, a run's id, a folder that holds an adapter, or a Hub id."
    )


def read_parameters(folder: Path) -> int | None:
    """Parameters of base and adapter as the adapter's report counted them; None where it has no report."""
    try:
        return int(json.loads((folder / "report.json").read_text())["parameters"]["all"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
