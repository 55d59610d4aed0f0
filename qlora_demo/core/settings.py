"""What every request to a job has in common: fields with title, bounds and help, and a sentence for each wrong value.

Bounds live in the fields alone: the page's sliders, the command line and the HTTP interface read them from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import SettingsError


@dataclass(frozen=True)
class Bounds:
    """The limits of one numeric field; `minimum_open` means the minimum itself is not allowed."""

    minimum: float | None = None
    maximum: float | None = None
    minimum_open: bool = False


class Settings(BaseModel):
    """Base of what a job is told to do: frozen, strict about names, all problems reported at once."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Self:
        """Settings from loose values (strings from a form or a file included).

        Raises SettingsError with one sentence for each wrong field.
        """
        try:
            return cls(**dict(fields))
        except ValidationError as error:
            problems: dict[str, str] = {}
            for item in error.errors():
                name = str(item["loc"][0]) if item["loc"] else "settings"
                problems.setdefault(name, _sentence(cls, name, item))
            raise SettingsError(problems) from None

    @classmethod
    def bounds(cls, name: str) -> Bounds:
        """The bounds of the field `name`, as its validation uses them."""
        rules = {
            kind: value
            for rule in cls.model_fields[name].metadata
            for kind in ("ge", "gt", "le")
            if (value := getattr(rule, kind, None)) is not None
        }
        return Bounds(rules.get("gt", rules.get("ge")), rules.get("le"), "gt" in rules)

    @classmethod
    def choices(cls, name: str) -> tuple[str, ...]:
        """The values that the field `name` may have, where they can be listed."""
        return tuple(value for value in get_args(cls.model_fields[name].annotation) if isinstance(value, str))

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


def quoted(value: Any) -> str:
    """A value as an error quotes it: at most 60 characters."""
    return repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."


def _sentence(settings: type[Settings], name: str, item: Any) -> str:
    """One sentence from one pydantic error: what, the value, what to do."""
    value, kind, context = item.get("input"), item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        return f"There is no setting called {name!r}; remove it."
    known = name in settings.model_fields
    title = settings.model_fields[name].title if known else name
    limits = settings.bounds(name) if known else Bounds()
    if kind == "literal_error":
        return f"{title} is {quoted(value)}; choose one of {context['expected']}."
    if kind in ("greater_than_equal", "greater_than", "less_than_equal", "less_than"):
        low = f"more than {limits.minimum:g}" if limits.minimum_open else f"from {limits.minimum:g}"
        return f"{title} is {quoted(value)}; give a number {low} up to {limits.maximum:g}."
    if kind == "string_too_short":
        return f"{title} is empty; give a value."
    if kind == "string_too_long":
        return f"{title} has {len(value)} characters; give at most {context['max_length']}."
    if kind.startswith(("int", "float", "finite", "bool")):
        wanted = {"i": "a whole number", "f": "a number", "b": "true or false"}[kind[0]]
        return f"{title} is {quoted(value)}; give {wanted}."
    if kind == "value_error":
        return f"{title} cannot be used: {context['error']}."
    return f"{title} is {quoted(value)}: {item['msg'].lower()}."
