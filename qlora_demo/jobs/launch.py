"""How a job's worker starts: a process in a session of its own, which outlives whoever started it.

The folder is the worker's only argument. Knows neither the queue nor what a worker does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from .malloc import with_malloc_settings


def start_worker(folder: Path) -> int:
    """Start `python -m qlora_demo.worker FOLDER`; returns its pid. Output goes to worker.log. Raises OSError."""
    with (folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "qlora_demo.worker", str(folder.absolute())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_environment(folder),
            start_new_session=True,
        )
    # Else the dead worker stays a zombie for as long as the app lives.
    threading.Thread(target=process.wait, name=f"reaper-{process.pid}", daemon=True).start()
    return process.pid


def python_environment() -> dict[str, str]:
    """The variables of a process that imports this package from wherever it is started, and may train."""
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**with_malloc_settings(os.environ), "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def _environment(folder: Path) -> dict[str, str]:
    # One device: with several the Trainer would wrap the model in DataParallel.
    devices = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")
    # The engine's cache lies beside the run, also where --runs-dir moved it.
    home = str(folder.absolute().parent)
    return {**python_environment(), "CUDA_VISIBLE_DEVICES": devices[0], "QLORA_DEMO_HOME": home}
