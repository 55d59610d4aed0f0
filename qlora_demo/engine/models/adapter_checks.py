"""Whether an untrusted adapter can be used: its settings, its note, its weights, each checked before PEFT sees any of
it.

What is not understood is refused, since PEFT imports modules and matches patterns that settings name. Knows not where
files come from. Every function raises AdapterError with one sentence that begins with the adapter's name."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ...core.errors import AdapterError
from ...core.format import shorten
from .modeling import FORMAT, AdapterNote
from .sources import SAMPLE_HUB_ID, SAMPLE_REVISION

LARGEST_RANK = 1024
MOST_LABELS = 1000
PREFIX = "base_model.model."
HEADS = ("classifier", "score")  # what PEFT saves of every classifier, named or not
# The modules whose rows are the labels.
OUTPUTS = ("score", "classifier", "classifier.out_proj", "classification_head.out_proj", "head.out_proj")
Shapes = dict[str, tuple[int, ...]]

_MODULE = re.compile(r"[A-Za-z_]\w{0,63}(\.\w{1,64}){0,15}", re.ASCII)
_LORA = re.compile(rf"{re.escape(PREFIX)}(?P<module>[\w.]+)\.lora_(?P<side>[AB])\.weight", re.ASCII)
_REVISION = re.compile(r"(?!.*\.\.)[\w./-]{0,100}", re.ASCII)
# Settings that mean nothing for how an adapter is used; the last two nothing without settings that are refused.
_FREE = {
    *("peft_version", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "runtime_config"),
    *("megatron_core", "qalora_group_size"),
}
_KEPT = (
    "peft_type",
    "task_type",
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "modules_to_save",
    "bias",
    "fan_in_fan_out",
    "use_rslora",
    "init_lora_weights",
    "base_model_name_or_path",
    "revision",
)


def read_object(path: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise AdapterError(f"{name} has a {path.name} that holds no JSON object; choose another adapter.")
    return content


def check_settings(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The settings PEFT needs, if they are those of plain LoRA on a classifier."""

    def refuse(field: str) -> AdapterError:
        value = shorten(str(config.get(field)), 40)
        return AdapterError(
            f"{name} is not an adapter that this app loads ({field} is {value!r}); choose LoRA of a text classifier."
        )

    for field, expected in (("peft_type", "LORA"), ("task_type", "SEQ_CLS")):
        if config.get(field) != expected:
            raise refuse(field)
    if not _is_whole(config.get("r"), 1, LARGEST_RANK):
        raise refuse("r")
    if not (_is_number(config.get("lora_alpha")) and 0 < config["lora_alpha"] <= 1e5):
        raise refuse("lora_alpha")
    if not (_is_number(config.get("lora_dropout", 0.0)) and 0 <= config.get("lora_dropout", 0.0) < 1):
        raise refuse("lora_dropout")
    targets, saved = config.get("target_modules"), config.get("modules_to_save")
    # A text instead of a list would be a pattern.
    if not _are_modules(targets) or not targets:
        raise refuse("target_modules")
    if saved is not None and not _are_modules(saved):
        raise refuse("modules_to_save")
    for field in ("fan_in_fan_out", "use_rslora", "inference_mode"):
        if not isinstance(config.get(field, False), bool):
            raise refuse(field)
    if config.get("bias", "none") != "none":
        raise refuse("bias")
    if config.get("init_lora_weights", True) not in (True, False, "gaussian"):
        raise refuse("init_lora_weights")  # others change the base's own weights
    for field, value in config.items():
        if field not in _FREE and field not in _KEPT and value not in (None, False, {}, [], ""):
            raise refuse(field)
    return {field: config[field] for field in _KEPT if field in config}


def check_note(note: Mapping[str, Any], settings: Mapping[str, Any], name: str) -> AdapterNote:
    """The note of an adapter that this app has made, if it agrees with the settings beside it."""
    labels = note.get("labels")
    texts = [note.get(field) for field in ("model", "base_name", "revision")]
    sound = (
        all(isinstance(text, str) and len(text) <= 400 for text in texts)
        and isinstance(labels, list)
        and all(isinstance(label, str) and 0 < len(label) <= 200 for label in labels)
        and len(set(labels)) == len(labels)
        and isinstance(note.get("ordinal"), bool)
        and note.get("precision") in ("fp32", "fp16", "nf4", "nf4-dq")
        and note.get("compute_dtype") in ("float32", "float16", "bfloat16")
        and _is_whole(note.get("max_length"), 1, 1_000_000)
        and _is_whole(note.get("pad_token_id"), 0, 10_000_000)
    )
    if note.get("format") != FORMAT:
        raise AdapterError(
            f"{name} has format {shorten(str(note.get('format')), 20)}, and this app reads {FORMAT}; update the app."
        )
    if not sound or note.keys() - AdapterNote.__dataclass_fields__.keys():
        raise AdapterError(
            f"{name} has a note (qlora_demo.json) that this app has not written so; choose another adapter."
        )
    checked = AdapterNote(**note)
    _check_labels(len(checked.labels), name)
    base, revision = settings.get("base_model_name_or_path"), settings.get("revision") or ""
    if (base, revision) != (checked.base_name, checked.revision):
        raise AdapterError(
            f"{name} names two bases, {shorten(checked.base_name, 60)} and {shorten(str(base), 60)}; choose another"
            " adapter."
        )
    if checked.model == "sample" and (checked.base_name, checked.revision) != (SAMPLE_HUB_ID, SAMPLE_REVISION):
        raise AdapterError(
            f"{name} calls {shorten(checked.base_name, 60)} the sample, which it is not; choose another adapter."
        )
    check_revision(checked.revision, name)
    return checked


def check_revision(revision: Any, name: str) -> str:
    if not isinstance(revision, str) or not _REVISION.fullmatch(revision):
        raise AdapterError(
            f"{name} names a revision of its base that is none ({shorten(str(revision), 40)!r}); choose another"
            " adapter."
        )
    return revision


def read_shapes(path: Path, name: str) -> Shapes:
    """Name and shape of every tensor of a safetensors file, all of them finite floating-point numbers."""
    shapes: Shapes = {}
    try:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118  # no mapping
                tensor = file.get_tensor(key)
                if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
                    raise AdapterError(
                        f"{name} holds {shorten(key, 80)} as {tensor.dtype}, which no adapter is; choose another one."
                    )
                if not bool(torch.isfinite(tensor).all()):
                    raise AdapterError(
                        f"{name} holds numbers that are none (NaN or infinite) in {shorten(key, 80)}; choose another"
                        " one."
                    )
                shapes[key] = tuple(tensor.shape)
    except (SafetensorError, OSError, ValueError) as error:
        raise AdapterError(
            f"{name} has a {path.name} that is damaged or no safetensors file; choose another adapter."
        ) from error
    return shapes


def count_labels(shapes: Shapes, name: str) -> int:
    """The labels of an adapter: the rows of its head's last layer."""
    shape = next((shapes[key] for output in OUTPUTS if (key := f"{PREFIX}{output}.weight") in shapes), None)
    if shape is None or len(shape) != 2:
        raise AdapterError(
            f"{name} has no trained classification head, so its labels are not known; choose another adapter."
        )
    _check_labels(shape[0], name)
    return shape[0]


def check_fit(shapes: Shapes, settings: Mapping[str, Any], base: PreTrainedModel, base_name: str, name: str) -> Shapes:
    """Whether the weights are those of LoRA, by these settings, on this base (on the meta device); the head's, by their
    names in the base.

    PEFT itself would leave out what does not fit, and go on with random weights in its place.
    """

    def refuse(what: str) -> AdapterError:
        return AdapterError(f"{name} does not fit its base {base_name}: {what}; choose another adapter.")

    modules, parameters = dict(base.named_modules()), dict(base.named_parameters())
    saved = (*HEADS, *(settings.get("modules_to_save") or ()))
    targeted = {
        module
        for module in modules
        if _is_linear(modules[module]) and _ends_in(module, settings["target_modules"]) and not _lies_in(module, saved)
    }
    left, head = set(shapes), {}
    for module in sorted(targeted):
        inner, outer = _sides(modules[module])
        for side, expected in (("A", (settings["r"], inner)), ("B", (outer, settings["r"]))):
            key = f"{PREFIX}{module}.lora_{side}.weight"
            if shapes.get(key) != expected:
                raise refuse(f"{module} needs LoRA weights of {expected}, and it has {shapes.get(key) or 'none'}")
            left.discard(key)
    for key in sorted(left):
        own = key.removeprefix(PREFIX)
        if _LORA.fullmatch(key) or not key.startswith(PREFIX) or own not in parameters or not _lies_in(own, saved):
            raise refuse(f"it holds {shorten(key, 80)}, which has no place there")
        if shapes[key] != tuple(parameters[own].shape):
            raise refuse(f"{own} is {shapes[key]} and should be {tuple(parameters[own].shape)}")
        head[own] = shapes[key]
    if not targeted:
        raise refuse("none of its target modules is there")
    prefix = base.base_model_prefix
    outside = [
        own
        for own in parameters
        if _lies_in(own, saved) or (hasattr(base, prefix) and not own.startswith(f"{prefix}."))
    ]
    if missing := [own for own in outside if own not in head]:
        raise refuse(f"its head lacks {missing[0]}")
    return head


def check_untrained(untrained: Shapes, head: Shapes, name: str) -> None:
    """Whether the head of before step 1 has the shapes of the trained one."""
    if untrained != head:
        raise AdapterError(
            f"{name} has a head from before its training that is not like the trained one; choose another adapter."
        )


def check_report(report: Mapping[str, Any], name: str) -> None:
    """Whether what the app reads of a report is there as numbers."""
    for group, field in (("parameters", "all"), ("calibration", "temperature")):
        if (part := report.get(group)) is not None and not (isinstance(part, dict) and _is_number(part.get(field))):
            raise AdapterError(
                f"{name} has a report.json that this app has not written so ({group}); choose another adapter."
            )


def _check_labels(count: int, name: str) -> None:
    if not 2 <= count <= MOST_LABELS:
        raise AdapterError(f"{name} has {count:,} labels; this app loads adapters with 2 to {MOST_LABELS:,}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _are_modules(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= 1000
        and all(isinstance(item, str) and _MODULE.fullmatch(item) for item in value)
    )


def _ends_in(module: str, names: list[str]) -> bool:
    return any(module == name or module.endswith(f".{name}") for name in names)


def _lies_in(name: str, modules: tuple[str, ...]) -> bool:
    return any(f".{module}." in f".{name}." for module in modules)


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | Conv1D)


def _sides(module: nn.Module) -> tuple[int, int]:
    """(in, out) of a linear layer; GPT-2's holds its weights the other way round."""
    rows, columns = cast(torch.Tensor, module.weight).shape
    return (rows, columns) if isinstance(module, Conv1D) else (columns, rows)
