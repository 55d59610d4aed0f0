"""What the reports of all kinds of job share: a version, one way of reading and one of writing.

Knows neither what a report holds nor where it lies."""

from __future__ import annotations

import json
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import ReportError


class Record(BaseModel):
    """A part of a report: frozen, and tolerant of fields that another version wrote."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def to_dict(self) -> dict[str, object]:
        """The record as JSON has it; a number that is not finite is null."""
        fields: dict[str, object] = json.loads(self.model_dump_json(by_alias=True))
        return fields


class Report(Record):
    """A whole report.json. `version` rises when a reader would have to tell old files from new ones."""

    version: int = 1

    @classmethod
    def parse(cls, text: str | bytes, name: str = "The report") -> Self:
        """The report in `text`, JSON. Raises ReportError where it is none of this kind, under `name`."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the whole file"
            raise ReportError(f"{name} is damaged at {place} ({first['msg']}); run it again.") from None

    def to_json(self) -> str:
        """The content of report.json, indented."""
        return self.model_dump_json(indent=2, by_alias=True) + "\n"
