"""Records as HTML: one Jinja2 environment for all templates of the page, which lie in `templates/<column>/`.

Every value is escaped, unless it is itself the result of `render`; a name that a template misses is an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..core.format import cut, decimal_size, duration, metric, number, percent, plural, share, shorten, size
from ..host.redaction import without_paths

TEMPLATES = Path(__file__).parent / "templates"


def render(name: str, /, **values: Any) -> Markup:
    """The template `name` (such as "memory/step.html.jinja") as HTML that other templates take as it is."""
    return Markup(_ENVIRONMENT.get_template(name).render(values))


def thousands(count: float) -> str:
    """A whole number with commas between its thousands."""
    return f"{count:,.0f}"


def width(value: float, of: float = 1.0) -> str:
    """The style of a bar's width, `value` being its share of `of`."""
    return f"width:{100 * value / of if of else 0:.1f}%"


def at(place: int, count: int) -> str:
    """Where label number `place` of `count` stands on the scale of stars, from 0 to 1: its colour follows."""
    return f"{place / max(count - 1, 1):.3f}"


def foreign(text: object) -> Markup:
    """Somebody else's text, shown as it was typed: its marks of writing direction turn nothing else around."""
    return Markup('<bdi class="file-typed">{}</bdi>').format(str(text))


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    numbers = (decimal_size, duration, metric, number, percent, plural, share, size, thousands)
    filters = (*numbers, at, cut, foreign, shorten, width, without_paths)
    environment.filters |= {function.__name__: function for function in filters}
    return environment


_ENVIRONMENT = _environment()
