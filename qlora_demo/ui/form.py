"""RunConfig's fields as form components: names, bounds and help come from the settings themselves.

Numbers are plain number fields: what is out of bounds is for RunConfig to say, all problems at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

import gradio as gr
from gradio.components import Component

from ..config import PRESETS, RunConfig, bounds

FIRST = ("epochs", "max_steps", "rank", "learning_rate", "batch_size", "max_length")
CHOICES = {
    "model": list(dict.fromkeys(preset.config.model for preset in PRESETS.values())),
    "data": list(dict.fromkeys(preset.config.data for preset in PRESETS.values())),
}


def build_fields(names: Iterable[str]) -> dict[str, Component]:
    """A component for each setting, `elem_id` train-<name>, with the sample run's values."""
    return {name: _build_field(name) for name in names}


def other_fields() -> list[str]:
    """The settings that are folded away."""
    return [name for name in RunConfig.model_fields if name not in (*FIRST, "model", "data")]


def _build_field(name: str) -> Component:
    field = RunConfig.model_fields[name]
    common: dict[str, Any] = {
        "value": field.default,
        "label": field.title,
        "info": " ".join(filter(None, [field.description, _span(name)])),
        "elem_id": f"train-{name.replace('_', '-')}",
        "interactive": True,
    }
    if name in CHOICES:
        return gr.Dropdown(CHOICES[name], allow_custom_value=True, **common)
    if field.annotation is bool:
        return gr.Checkbox(**common)
    if choices := get_args(field.annotation):
        return gr.Dropdown(list(choices), **common)
    return gr.Textbox(max_lines=1, **common) if field.annotation is str else gr.Number(**common)


def _span(name: str) -> str:
    """The bounds in words, from where they are checked."""
    limits = bounds(name)
    if limits.minimum is None or limits.maximum is None:
        return ""
    return f"({'more than ' if limits.minimum_open else ''}{limits.minimum:,g} to {limits.maximum:,.12g})"
