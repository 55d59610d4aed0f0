"""Single reviews as HTML: a page of them, one as the model gets it, and the ones chosen for training.

Pure: plain functions of an Examiner's answers. Every text is escaped and stays as typed; what is searched for is
marked. Works in the style sheet's colours. Knows no handler."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from ...core.data_report import PreviewRow, Subset, TokenizedReview
from ...core.format import percent, shorten

LONGEST_SHOWN = 600  # characters of a review in the list
MOST_TOKENS = 512  # drawn one by one
CUT_SHOWN = 2_000  # characters of the end that is cut


def view_reviews(rows: Sequence[PreviewRow], total: int, start: int, query: str, chosen: tuple[str, int] | None) -> str:
    """A page of reviews, each a button (data-split, data-row); what is found of `query` is marked."""
    if not rows:
        said = f"No review holds “{shorten(query, 60)}”." if query else "There are no reviews."
        return f'<p class="quiet" role="status">{escape(said)}</p>'
    several = len({row.split for row in rows}) > 1 or rows[0].split != "all"
    items = "".join(_item(row, query, several, chosen == (row.split, row.row)) for row in rows)
    what = f" with “{escape(shorten(query, 60))}”" if query else ""
    count = "1 review" if total == 1 else f"{start + 1:,} to {start + len(rows):,} of {total:,} reviews"
    place = f"{count}{what}. Press one to see it as the model does."
    return f'<p class="quiet" role="status">{place}</p><ol class="data-list">{items}</ol>'


def _item(row: PreviewRow, query: str, several: bool, pressed: bool) -> str:
    where = f"{row.split} {row.row:,}" if several else f"{row.row:,}"
    label = f'<bdi class="data-label">{escape(shorten(row.label, 24))}</bdi>' if row.label else ""
    text = row.text
    more = f"<small> … {len(text) - LONGEST_SHOWN:,} more characters</small>" if len(text) > LONGEST_SHOWN else ""
    return (
        f'<li><button type="button" data-split="{escape(row.split)}" data-row="{row.row}"'
        f' aria-pressed="{str(pressed).lower()}"><span'
        f' class="data-where">{label}<small>{escape(where)}</small></span><span class="data-text"'
        f' dir="auto">{_marked(text[:LONGEST_SHOWN], query)}{more}</span></button></li>'
    )


def _marked(text: str, query: str) -> str:
    if not query:
        return escape(text)
    pieces = re.split(f"({re.escape(query)})", text, flags=re.IGNORECASE)
    return "".join(
        f"<mark>{escape(piece)}</mark>" if place % 2 else escape(piece) for place, piece in enumerate(pieces)
    )


def view_seen(seen: TokenizedReview | None, max_length: int) -> str:
    """A review as the model gets it: its tokens with their numbers, the padding, and the end that is cut."""
    if not seen:
        return '<p class="quiet">Choose a review of the list.</p>'
    tokens, ids, mask = seen.tokens, seen.ids, seen.mask
    read = sum(mask)
    chips = "".join(
        f'<span class="data-token"><bdi>{escape(token)}</bdi><small>{number}</small></span>'
        for token, number in zip(tokens[: min(read, MOST_TOKENS)], ids, strict=False)
    )
    more = f'<span class="quiet">and {read - MOST_TOKENS:,} more</span>' if read > MOST_TOKENS else ""
    if seen.padding:
        pad = f"<bdi>{escape(tokens[-1])}</bdi> × {seen.padding:,}<small>{ids[-1]}</small>"
        more += f'<span class="data-token data-padding">{pad}</span>'
    said = f"<strong>{read:,} tokens</strong> of at most {max_length:,}"
    said += (
        f", then <strong>{seen.padding:,} of padding</strong> up to the longest review of this page"
        if seen.padding
        else ""
    )
    return (
        f'<p>{said}.</p><div class="data-tokens" role="group" aria-label="Tokens">{chips}{more}</div><p'
        ' class="legend"><span><i class="data-read"></i>read (mask 1)</span><span><i class="data-padding"></i>padding'
        f" (mask 0)</span><span>below each token: its id</span></p>{_cut_end(seen)}{_numbers(ids, mask)}"
    )


def _cut_end(seen: TokenizedReview) -> str:
    if not seen.cut_tokens and not seen.unread_characters:
        return '<p class="quiet">Nothing of it is cut.</p>'
    end = seen.cut_text
    more = f" … {len(end) - CUT_SHOWN:,} more characters" if len(end) > CUT_SHOWN else ""
    at_least = "at least " if seen.unread_characters else ""
    shown = f'<p class="data-cut-text" dir="auto">{escape(end[:CUT_SHOWN])}{more}</p>' if end else ""
    return f"<p><strong>Cut: {at_least}{seen.cut_tokens:,} tokens</strong>, which the model never sees.</p>{shown}"


def _numbers(ids: Sequence[int], mask: Sequence[int]) -> str:
    return (
        '<details class="data-more"><summary>As numbers, to copy</summary><p class="caption">input_ids</p>'
        f'<code class="data-numbers">{", ".join(map(str, ids))}</code><p class="caption">attention_mask</p>'
        f'<code class="data-numbers">{", ".join(map(str, mask))}</code></details>'
    )


def view_subset(found: Subset | None) -> str:
    """The reviews that would be trained on, label by label, beside all that there are."""
    if not found:
        return ""
    most = max((of for of, _ in found.balance.values()), default=1)
    rows = "".join(
        f'<div class="data-row"><bdi title="{escape(label)}">{escape(shorten(label, 24))}</bdi>'
        f'<div class="data-bar data-of"><i class="data-all" style="width:{100 * of / max(1, most):.2f}%"></i>'
        f'<i class="data-split-0" style="width:{100 * chosen / max(1, most):.2f}%"></i></div>'
        f'<span class="number"><strong>{chosen:,}</strong><small>of {of:,}</small></span></div>'
        for label, (of, chosen) in found.balance.items()
    )
    if found.rows == found.available:
        return (
            f"<p>All <strong>{found.available:,}</strong> training reviews, shuffled; the others judge the result.</p>"
        )
    share = percent(found.rows / max(1, found.available))
    return (
        f"<p><strong>{found.rows:,}</strong> of {found.available:,} training reviews ({share}), shuffled, each label by"
        " its share.</p>"
        f'<div class="data-rows">{rows}</div>'
    )
