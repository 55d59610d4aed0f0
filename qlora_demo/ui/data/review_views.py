"""Single reviews as HTML: a page of them, one as the model gets it, and the ones chosen for training. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...core.data_report import PreviewRow, Subset, TokenizedReview
from ..templating import render

LONGEST_PREVIEW = 600  # characters of a review in the list
MAX_TOKENS = 512  # drawn one by one
LONGEST_END = 2_000  # characters of the truncated end
NOTHING_SELECTED = '<p class="quiet">Select a review from the list.</p>'


def view_reviews(
    rows: Sequence[PreviewRow], total: int, start: int, query: str, selected: tuple[str, int] | None
) -> str:
    """A page of reviews, each a button; what matches `query` is marked."""
    return render(
        "data/reviews.html.jinja",
        rows=[(row, _split_at(row.text[:LONGEST_PREVIEW], query)) for row in rows],
        total=total,
        start=start,
        query=query,
        selected=selected,
        several=len({row.split for row in rows}) > 1 or (bool(rows) and rows[0].split != "all"),
        longest=LONGEST_PREVIEW,
    )


def _split_at(text: str, query: str) -> list[str]:
    """The text in pieces: every second one matches the query."""
    return re.split(f"({re.escape(query)})", text, flags=re.IGNORECASE) if query else [text]


def view_tokens(review: TokenizedReview | None, max_length: int) -> str:
    """A review as the model gets it: its tokens with their ids, the padding, and the end that is truncated."""
    if review is None:
        return NOTHING_SELECTED
    limits = {"most_tokens": MAX_TOKENS, "longest": LONGEST_END}
    return render("data/tokens.html.jinja", review=review, max_length=max_length, **limits)


def view_subset(subset: Subset | None) -> str:
    """The reviews that would be trained on, label by label, beside all that there are."""
    if subset is None:
        return ""
    most = max((available for available, _ in subset.balance.values()), default=1)
    return render("data/subset.html.jinja", subset=subset, most=most)
