"""RunConfig's fields as form components: names, bounds and help come from the settings themselves.

Numbers are plain number fields: what is out of bounds is for RunConfig to say, all problems at once. What is typed is
kept in the browser, so that a reload loses nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from ...core.config import RunConfig
from ...core.presets import PRESETS
from ..fields import CHOICES
from ..handlers import PRIVATE

FIRST = ("epochs", "max_steps", "rank", "learning_rate", "batch_size", "max_length")
STORED = "qlora-demo-form"
TYPED = f"() => [localStorage.getItem('{STORED}') !== null]"  # whether the browser keeps a form


def build_form() -> dict[str, Component]:
    """All settings, the chief ones first, the others folded away."""
    fields = build_fields(["model", "data"])
    with gr.Row(elem_classes="pairs"):
        fields |= build_fields(FIRST)
    fields |= build_fields(["pinned"])
    others = [name for name in RunConfig.model_fields if name not in fields]
    with gr.Accordion("All other settings", open=False, elem_id="train-others"):
        fields |= build_fields(others)
    return fields


def build_fields(names: Iterable[str]) -> dict[str, Component]:
    """A component for each setting, `elem_id` train-<name>, with the sample run's values."""
    return {name: _build_field(name) for name in names}


def form_values(config: RunConfig, fields: Mapping[str, Component]) -> dict[Component, Any]:
    """What the form shows for these settings."""
    settings = config.to_dict()
    return {component: _text_of(settings[name]) for name, component in fields.items()}


def preset_values(fields: Mapping[str, Component]) -> str:
    """A script that fills the form with a preset's values: the browser need not wait for the server."""
    values = {name: ["", "", *form_values(item.config, fields).values()] for name, item in PRESETS.items()}
    return f"(name) => ({json.dumps(values)})[name]"


def problems_list() -> gr.HTML:
    """All that is wrong with the form (its value: the list of `view_problems`), repeated beside each field that it is
    about.
    """
    return gr.HTML(
        elem_id="train-problems", js_on_load=(Path(__file__).parent / "problems.js").read_text(encoding="utf-8")
    )


def keep_in_browser(page: gr.Blocks, fields: Mapping[str, Component]) -> None:
    """What stands in the fields is written into the browser's own storage at each change, and put back when the page is
    opened again.

    All of it in the browser: gr.BrowserState is not there yet when the page loads.
    """
    names, components = json.dumps(list(fields)), list(fields.values())
    # Components speak of a change as they come up, too: before what was kept is back in its place, that is not to be
    # written.
    write = f"""(...values) => {{
      const form = Object.fromEntries({names}.map((name, i) => [name, values[i]]));
      if (window.qloraForm) localStorage.setItem("{STORED}", JSON.stringify(form));
      return [];
    }}"""
    restore = f"""(...values) => {{
      let kept = {{}};
      try {{ kept = JSON.parse(localStorage.getItem("{STORED}")) ?? {{}}; }} catch {{ /* it stays as it is */ }}
      setTimeout(() => {{ window.qloraForm = true; }}, 500);
      return {names}.map((name, i) => kept[name] ?? values[i]);
    }}"""
    changes = [field.change for field in components]  # type: ignore[attr-defined]
    gr.on(changes, None, components, None, js=write, **PRIVATE)
    page.load(None, components, components, js=restore, **PRIVATE)


def _build_field(name: str) -> Component:
    field = RunConfig.model_fields[name]
    common: dict[str, Any] = {
        "value": _text_of(field.default),
        "label": field.title,
        "info": " ".join(filter(None, [field.description, _span(name)])),
        "elem_id": f"train-{name.replace('_', '-')}",
        "interactive": True,
    }
    if name in CHOICES:
        return gr.Dropdown(CHOICES[name], allow_custom_value=True, **common)
    if field.annotation is bool:
        return gr.Checkbox(**common)
    if RunConfig.choices(name):
        return gr.Dropdown(list(RunConfig.choices(name)), **common)
    if isinstance(field.default, tuple):
        return gr.Textbox(lines=3, max_lines=5, **common)
    return gr.Textbox(max_lines=1, **common) if field.annotation is str else gr.Number(**common)


def _text_of(value: Any) -> Any:
    """Several values are shown one per line."""
    return "\n".join(value) if isinstance(value, list | tuple) else value


def _span(name: str) -> str:
    """The bounds in words, from where they are checked."""
    limits = RunConfig.bounds(name)
    if limits.minimum is None or limits.maximum is None:
        return ""
    return f"({'more than ' if limits.minimum_open else ''}{limits.minimum:,g} to {limits.maximum:,.12g})"
