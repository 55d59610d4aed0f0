"""What the Data tab and `data --json` say of a data source: the typed report, and records of single reviews.

Written by `engine/data/audit.py`, completed for the page by `services/data.py`. The JSON keys are the fields' names;
excluded fields are for the page alone."""

from __future__ import annotations

from pydantic import Field

from .report import Record, Report


class TokenLengths(Record):
    """Tokens per review, special ones included: median, 95th percentile and maximum over the `reviews` counted.

    truncated: share of the reviews longer than `max_length`; cut: share of all tokens lost by that. sampled: only a
    random sample was counted. counts: reviews by number of tokens."""

    p50: int
    p95: int
    max: int
    truncated: float
    cut: float
    max_length: int
    reviews: int
    sampled: bool
    counts: dict[int, int] = Field(default_factory=dict, exclude=True)


class Contradiction(Record):
    """One text with conflicting labels: rows by label."""

    text: str
    labels: dict[str, int]


class Leak(Record):
    """Overlap of two splits: rows of `judged` whose texts are in `known` too, with a few of these texts."""

    known: str
    judged: str
    rows: int
    examples: tuple[str, ...]


class Skipped(Record):
    """Rows left out for one reason, with the first line numbers (row numbers where the source has no lines)."""

    reason: str
    rows: int
    first_lines: tuple[int, ...]


class Repair(Record):
    """A text with encoding errors or HTML entities, before and after its repair."""

    before: str
    after: str


class DataReport(Report):
    """The report of one data source. rows = used + all skipped rows.

    labels: reviews by label, in ordinal order; {} without a label column. duplicates: rows whose text came earlier in
    the same split. contradicting: rows of texts with conflicting labels. languages: shares by ISO 639 code, of the
    `language_reviews` classified. entities, garbled: reviews with HTML entities, with encoding errors. splits: reviews
    by split.

    For the page: repairs (a few of the texts with errors), tokenizer (the model whose tokens were counted),
    tokenizer_problem (why it is not the one asked for), available_splits (where there are several)."""

    name: str
    rows: int
    used: int
    skipped: tuple[Skipped, ...] = ()
    labels: dict[str, int] = Field({})
    label_rule: str = ""
    ordinal: bool = False
    format: str = ""
    encoding: str | None = None
    delimiter: str | None = None
    header: bool | None = None
    text_column: str
    title_column: str | None = None
    label_column: str | None = None
    columns: tuple[str, ...] = ()
    splits: dict[str, int] = Field({})
    balance: dict[str, dict[str, int]] = Field({})
    tokens: TokenLengths | None = None
    duplicates: int = 0
    contradicting: int = 0
    contradictions: tuple[Contradiction, ...] = ()
    leaks: tuple[Leak, ...] = ()
    languages: dict[str, float] = Field({})
    language_reviews: int = 0
    entities: int = 0
    garbled: int = 0
    warnings: tuple[str, ...] = ()
    repairs: tuple[Repair, ...] = Field(default=(), exclude=True)
    tokenizer: str = Field(default="", exclude=True)
    tokenizer_problem: str = Field(default="", exclude=True)
    available_splits: tuple[str, ...] = Field(default=(), exclude=True)


class PreviewRow(Record):
    """One review of a preview; row: its number in its split, from 1. label: "" where it has none."""

    split: str
    row: int
    label: str
    text: str


class TokenizedReview(Record):
    """A review as the model gets it: tokens as text, their ids, and the attention mask (0 = padding).

    padding: number of padding tokens. cut_tokens, cut_text: what the maximum length cuts off. unread_characters: at the
    end of a text too long to be tokenized whole."""

    text: str
    tokens: tuple[str, ...]
    ids: tuple[int, ...]
    mask: tuple[int, ...]
    padding: int
    cut_tokens: int
    cut_text: str
    unread_characters: int = 0


class Subset(Record):
    """The reviews that a run would train on: `rows` of the `available` ones; balance: (available, chosen) by label."""

    available: int
    rows: int
    balance: dict[str, tuple[int, int]]
