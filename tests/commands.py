"""The command line, in a process of its own; `cli` of conftest.py runs it in the tests' own, which is much faster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.serving import ROOT

Done = subprocess.CompletedProcess[str]


def python(*arguments: str, env: dict[str, str] | None = None, cwd: Path = ROOT) -> Done:
    """On one thread, since the models are small and processors may be shared, and on the CPU, where equal kernels give
    equal numbers."""
    env = {**(os.environ if env is None else env), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=280, check=False)


def command(*arguments: str, env: dict[str, str] | None = None) -> Done:
    return python("-m", "qlora_demo", *arguments, env=env)


def answer(done: Done) -> Any:
    """The JSON on the last line of a process that went well."""
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])
