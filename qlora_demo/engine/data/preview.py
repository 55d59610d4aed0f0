"""Single reviews of a data set: searched, and as the model gets them."""

from __future__ import annotations

from typing import Any

from ...core.data_report import PreviewRow, TokenizedReview
from .reviews import DataSet


def search(data: DataSet, query: str = "", start: int = 0, count: int = 50) -> tuple[list[PreviewRow], int]:
    """(`count` reviews from number `start` on of those whose text or label contains `query` in any case, how many there
    are).
    """
    needle, rows, total = query.casefold(), [], 0
    labels = {i for i, name in enumerate(data.labels) if needle and needle in name.casefold()}
    for split, reviews in data.splits.items():
        for row, (text, label) in enumerate(zip(reviews.texts, reviews.labels, strict=True), 1):
            if needle and label not in labels and needle not in text.casefold():
                continue
            if start <= total < start + count:
                name = data.labels[label] if label >= 0 else ""
                rows.append(PreviewRow(split=split, row=row, label=name, text=text))
            total += 1
    return rows, total


def as_model_sees(text: str, tokenizer: Any, max_length: int, length: int = 0) -> TokenizedReview:
    """`text` cut to `max_length` tokens and padded to `length`: that of the longest review beside it in a batch (0 =
    not padded).
    """
    whole = tokenizer(text, truncation=False, verbose=False)["input_ids"]
    kept = tokenizer(text, truncation=True, max_length=max_length)
    padded = tokenizer.pad(
        {"input_ids": [kept["input_ids"]]}, padding="max_length", max_length=max(length, len(kept["input_ids"]))
    )
    ids, mask = padded["input_ids"][0], padded["attention_mask"][0]
    return TokenizedReview(
        text=text,
        tokens=tuple(tokenizer.convert_ids_to_tokens(ids)),
        ids=tuple(ids),
        mask=tuple(mask),
        padding=len(ids) - sum(mask),
        cut_tokens=len(whole) - len(kept["input_ids"]),
        cut_text=_cut_text(text, tokenizer, max_length) if len(whole) > len(kept["input_ids"]) else "",
    )


def _cut_text(text: str, tokenizer: Any, max_length: int) -> str:
    """The end of `text` that no kept token covers; from the offsets, where the tokenizer has them."""
    if not tokenizer.is_fast:
        return ""
    spans = tokenizer(text, truncation=True, max_length=max_length, return_offsets_mapping=True)["offset_mapping"]
    return text[max((end for _, end in spans), default=0) :]
