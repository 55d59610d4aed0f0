"""How a run is repeated: the app's command, or one script that needs the libraries alone, with the same base, reviews,
steps and loss. The script is the template train.py.jinja, filled with the run's own numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..core.config import RunConfig
from ..core.errors import SettingsError
from ..core.run_report import RunReport
from .loading import HEADS
from .markdown import shell_word
from .metadata import hub_base, public_name
from .templating import render

_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "scikit-learn")


def write_script(report: RunReport, note: Mapping[str, Any], adapter_config: Mapping[str, Any]) -> str:
    """The script that repeats the run of a report, as Python source.

    note: the adapter's qlora_demo.json; adapter_config: PEFT's adapter_config.json, which names the layers. No path of
    this machine is written into it: a local base and an adapter to start from are its arguments.
    """
    config, data, versions = report.config, report.data, report.environment.versions
    compute = report.environment.compute_dtype
    half = "bfloat16" if compute == "bfloat16" else "float16"
    base = hub_base(str(note["base_name"]))
    whole = sorted(set(adapter_config["modules_to_save"]))
    steps = _steps(config, data.rows["train"])
    return render(
        "train.py.jinja",
        **config.to_dict()
        | {
            "libraries": [
                f"{name}=={versions[name].partition('+')[0]}" if name in versions else name for name in _LIBRARIES
            ],
            "rows": sum(data.rows.values()),
            "labels": list(data.labels),
            "ordinal": data.ordinal,
            "base": base,
            "revision": str(note.get("revision") or "") if base else "",
            "four_bit": config.precision.startswith("nf4"),
            "dtype": "float32" if config.precision == "fp32" else half,
            "compute_dtype": compute,
            "heads": HEADS,
            "targets": sorted(adapter_config["target_modules"]),
            "whole": whole,
            "max_length": int(note["max_length"]),
            "smoothing": config.label_smoothing,
            "balanced": config.class_weights == "balanced",
            "optimizer": "adamw_bnb_8bit" if config.optimizer == "adamw_8bit" else config.optimizer,
            "evaluation_batch": max(config.batch_size, min(32, 8 * config.batch_size)),
            "steps": steps,
            "every": max(1, math.ceil(steps / config.evaluations)),
        },
    )


def write_command(config: Mapping[str, Any]) -> str:
    """The command that starts a run with these settings. It names neither those at their default nor pinned reviews."""
    usual = RunConfig().to_dict()
    try:
        settings = RunConfig.read({name: value for name, value in config.items() if name in usual}).to_dict()
    except SettingsError:  # of a version with other bounds
        return "python -m qlora_demo train"
    words = ["python -m qlora_demo train"]
    for name, value in settings.items():
        flag = f"--{name.replace('_', '-')}"
        if value == usual[name] or name == "pinned" or (name == "epochs" and settings["max_steps"]):
            continue
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        else:
            words.append(f"{flag} {shell_word(_argument(name, value))}")
    return " ".join(words)


def _argument(name: str, value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(value)
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return public_name(name, text) if name in ("model", "data", "start_from") else text


def _steps(config: RunConfig, train_rows: int) -> int:
    per_epoch = max(1, math.ceil(math.ceil(train_rows / config.batch_size) / config.accumulation))
    return config.max_steps or math.ceil(config.epochs * per_epoch)
