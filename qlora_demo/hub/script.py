"""How a run is repeated: the app's command, or one script that needs the libraries alone, with the same base, reviews,
steps and loss.

The script's parts lie in train_script.txt; here they are chosen and the settings written above them. Knows neither
torch nor the Hub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ..core.config import RunConfig
from ..core.errors import DataError, SettingsError
from .markdown import literal, shell_word
from .metadata import AMAZON, SAMPLES, hub_base, hub_data, public_name

SAMPLE_BASE = ("sentence-transformers/all-MiniLM-L6-v2", "c9745ed1d9f207416be6d2e6f8de32d1f16199bf")
_SAMPLE_LABELS = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets")
_NAMES = {  # the script's name of a setting, and what it is, where the name does not say it
    "precision": ("PRECISION", "nf4-dq is NF4 with double quantization; fp16 and fp32 are plain LoRA"),
    "targets": ("TARGETS", ""),
    "rank": ("RANK", ""),
    "alpha": ("ALPHA", ""),
    "dropout": ("DROPOUT", ""),
    "learning_rate": ("LEARNING_RATE", ""),
    "schedule": ("SCHEDULE", ""),
    "warmup": ("WARMUP", "a share of the steps"),
    "weight_decay": ("WEIGHT_DECAY", ""),
    "optimizer": ("OPTIMIZER", ""),
    "batch_size": ("BATCH_SIZE", ""),
    "accumulation": ("ACCUMULATION", ""),
    "epochs": ("EPOCHS", ""),
    "max_steps": ("MAX_STEPS", "0 = by epochs"),
    "max_length": ("MAX_LENGTH", "tokens"),
    "label_smoothing": ("SMOOTHING", ""),
    "class_weights": ("CLASS_WEIGHTS", ""),
    "gradient_checkpointing": ("GRADIENT_CHECKPOINTING", ""),
    "evaluations": ("EVALUATIONS", "in a run"),
    "best_metric": ("BEST_METRIC", "of the checkpoint that is kept"),
    "patience": ("PATIENCE", "evaluations without a better one; 0 = to the end"),
    "log_every": ("LOG_EVERY", ""),
    "rows": ("ROWS", "training reviews; 0 = all"),
    "seed": ("SEED", ""),
}


def write_script(
    settings: Mapping[str, Any], report: Mapping[str, Any] | None, *, base: str = "", revision: str = ""
) -> str:
    """The script that repeats a run with these settings; `report`, where there is one, has its labels and versions.

    base, revision: what the run's model was, where that is known better than by the setting. A path is never written
    into it. Raises DataError where labels are not known without a report."""
    config = RunConfig.read(
        {name: value for name, value in settings.items() if name in RunConfig.model_fields}
    ).to_dict()
    environment = (report or {}).get("environment") or {}
    told = {
        "config": config,
        "data": (report or {}).get("data") or {"name": config["data"]},
        "environment": environment,
    }
    on_hub = hub_data(told)
    head = f"{_header(told, on_hub)}\n\n{_parts()['start']}\n\n" + "\n".join(_constants(told, on_hub, base, revision))
    columns = [] if config["data"] in SAMPLES else [_parts()["columns"]]
    return "\n\n\n".join([head, _parts()[_reader(told, on_hub)], *columns, _parts()["train"]]) + "\n"


def write_command(config: Mapping[str, Any]) -> str:
    """The command that starts a run with these settings; what they leave at its default is not named, pinned reviews
    neither.
    """
    try:
        usual = RunConfig().to_dict()
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
            text = (
                "\n".join(value)
                if isinstance(value, list)
                else f"{value:g}"
                if isinstance(value, float)
                else str(value)
            )
            words.append(
                f"{flag} {shell_word(public_name(name, text) if name in ('model', 'data', 'start_from') else text)}"
            )
    return " ".join(words)


@cache
def _parts() -> dict[str, str]:
    text = (Path(__file__).parent / "train_script.txt").read_text(encoding="utf-8")
    found = re.split(r"^#% ([\w-]+)\n", text, flags=re.MULTILINE)[1:]
    return {name: part.strip("\n") for name, part in zip(found[::2], found[1::2], strict=True)}


def _reader(told: dict[str, Any], on_hub: str) -> str:
    if told["config"]["data"] in SAMPLES:
        return str(told["config"]["data"])
    if not on_hub:
        return "file"
    return "amazon" if on_hub == AMAZON[0] and told["data"].get("revision") else "hub"


def _labels(config: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
    found = data.get("labels") or (_SAMPLE_LABELS if config["data"] in SAMPLES else config["labels"])
    if not found:
        raise DataError(
            "The labels of this run's reviews are not known before it has ended; ask again then, or name its labels."
        )
    return [str(label) for label in found]


def _header(told: dict[str, Any], on_hub: str) -> str:
    """What the script says of itself: its libraries (PEP 723), how it is called, and what can differ."""
    config, versions = told["config"], told["environment"].get("versions") or {}
    needed = [f"{name}=={str(versions[name]).partition('+')[0]}" if name in versions else name for name in _LIBRARIES]
    if config["data"] in SAMPLES:
        call = (
            "python train.py FOLDER, the folder with the app's sample reviews (assets/sample_reviews in its repository)"
        )
    else:
        call = (
            "python train.py; the reviews come from the Hub"
            if on_hub
            else "python train.py FILE, the file of the run's reviews"
        )
    local = not hub_base(str(config["model"])) and config["model"] != "sample"
    lines = [
        f"{call}.",
        *(["The base was a local model: give its folder with --base."] if local else []),
        *(["The run began with another adapter: give its folder with --start-from."] if config["start_from"] else []),
        "",
        "Splits, order of reviews, layers, seeds, steps and loss are the run's. Not the same to the bit are:",
        (
            "- sums, on another processor, another number of threads or other versions: test figures then move by a few"
            " reviews;"
        ),
        *(
            []
            if config["data"] in SAMPLES
            else ["- messy reviews: the app reads and leaves out more than this script does;"]
        ),
        *(
            ["- texts: the run brought HTML entities and damaged letters back, which this script does not."]
            if config["mend"]
            else []
        ),
    ]
    dependencies = "\n".join(f'#     "{name}",' for name in needed)
    return (
        f'# /// script\n# requires-python = ">=3.11"\n# dependencies = [\n{dependencies}\n# ]\n# ///\n'
        '"""Repeats a QLoRA run with the libraries alone.\n\n' + "\n".join(lines) + '\n"""'
    )


def _constants(told: dict[str, Any], on_hub: str, base: str, revision: str) -> list[str]:
    """The settings, as Python."""
    config, data = told["config"], told["data"]
    known = SAMPLE_BASE if config["model"] == "sample" else (base or config["model"], revision or config["revision"])
    compute = str(told["environment"].get("compute_dtype", "bfloat16"))
    # The path of a folder is nobody's business; --base has it.
    lines = [
        f"BASE = {literal(hub_base(known[0]))}" if hub_base(known[0]) else 'BASE = "."  # a local model',
        f"REVISION = {literal(known[1])}" if hub_base(known[0]) and known[1] else "REVISION = None",
        f"LABELS = {literal(_labels(config, data))}",
        f"ORDINAL = {bool(data.get('ordinal', True))}  # whether the labels are stars, or otherwise from bad to good",
        f"ON_HUB = {bool(on_hub)}",
        f"FROM_ADAPTER = {bool(config['start_from'])}",
        f"COMPUTE = {literal(compute)}  # matrices are multiplied in it, on a CPU",
    ]
    for name, (constant, about) in _NAMES.items():
        value = "adamw_bnb_8bit" if config[name] == "adamw_8bit" else config[name]
        shown = literal(value) if isinstance(value, str) else repr(value)
        lines.append(f"{constant} = {shown}" + (f"  # {about}" if about else ""))
    if on_hub:
        lines += [
            f"DATA = {literal(on_hub)}",
            f"DATA_CONFIG = {literal(config['data_config'])}",
            f"DATA_REVISION = {literal(str(data.get('revision') or config['data_revision']))}",
        ]
    if config["data"] not in SAMPLES:
        halves = str(data.get("label_rule", "")).startswith("half stars")
        columns = (
            (name.upper(), config[name])
            for name in ("text_column", "title_column", "label_column", "encoding", "delimiter")
        )
        lines += [f"{name} = {literal(value)}" for name, value in columns]
        lines.append(f"HALF_STARS = {halves}  # are rounded up")
    return lines
