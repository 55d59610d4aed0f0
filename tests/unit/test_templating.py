"""Every template of the page compiles; what users typed stays text; what is missing is an error, not a blank."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from qlora_demo.core.records import Machine
from qlora_demo.ui.templating import _ENVIRONMENT, TEMPLATES, foreign, plural, render, thousands, width
from qlora_demo.ui.views import view_machine

NAMES = sorted(path.relative_to(TEMPLATES).as_posix() for path in TEMPLATES.rglob("*.jinja"))
MACHINE = Machine("cpu", "CPU", "No <CUDA> GPU.", 4 * 1024**3, 0, False, "sample", "it fits")


@pytest.mark.parametrize("name", NAMES)
def test_every_template_compiles(name: str) -> None:
    _ENVIRONMENT.get_template(name)


def test_no_template_turns_the_escaping_off() -> None:
    for name in NAMES:
        text = (TEMPLATES / name).read_text(encoding="utf-8")
        assert "safe" not in text.split("|") and "| safe" not in text and "autoescape" not in text, name


def test_values_are_escaped_and_html_of_a_template_is_taken_as_it_is() -> None:
    html = view_machine(MACHINE)
    assert "No &lt;CUDA&gt; GPU." in html and "CPU, 4.00 GiB of memory" in html and "Offline" in html
    assert foreign("<b>") == '<bdi class="file-typed">&lt;b&gt;</bdi>'


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        render("shared/machine.html.jinja")


def test_numbers_in_words() -> None:
    assert (thousands(12345), plural(1, "row"), plural(1200, "row")) == ("12,345", "1 row", "1,200 rows")
    assert (width(1, 3), width(1, 0)) == ("width:33.3%", "width:0.0%")
