"""Text made of templates: cards, scripts and code. Nothing is escaped unless a template says so, by the filters of
`markdown`: these files are not HTML, and their numbers and names of one's own need none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..core.format import number
from .markdown import code_block, literal, one_line, plain

_TEMPLATES = Path(__file__).parent / "templates"


def render(name: str, /, **values: Any) -> str:
    """The template `name` (such as "train.py.jinja") with these values; a value that is missing is an error."""
    return _ENVIRONMENT.get_template(name).render(values)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    environment.filters |= {function.__name__: function for function in (code_block, number, one_line, plain)}
    environment.filters |= {"source": literal, "count": "{:,}".format}
    return environment


_ENVIRONMENT = _environment()
