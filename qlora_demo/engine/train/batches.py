"""What a step is fed: tokenized reviews, batches of like length in random order, the loss over them.

Knows neither models nor runs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy, one_hot

from ..data.dataset import Reviews

# Reviews are sorted by length within groups of this many batches: longer groups pad less and mix less.
GROUP_BATCHES = 16


class Tokens(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Tokenized reviews, cut to `max_length`; not padded, that is the collator's."""

    def __init__(self, reviews: Reviews, tokenizer: Any, max_length: int):
        self.max_length = max_length
        self.ids = tokenizer(reviews.texts, truncation=True, max_length=max_length, padding=False)["input_ids"]
        self.labels = reviews.labels

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.ids[index], "labels": self.labels[index]}


class LikeLengths(torch.utils.data.Sampler[int]):
    """Indices so that each batch holds reviews of like length, and batches come in random order, another one each
    epoch.

    transformers' own `group_by_length` hands a group out from its longest batch to its shortest, so that length, and
    with it what is said, swings in step with the optimizer: on the sample it ended two epochs at a training loss of
    0.87. The longest batch comes first: memory runs out at once or not at all."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int):
        self._lengths, self._batch_size, self._seed = lengths, batch_size, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch, also where it resumes."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = random.Random(f"{self._seed} {self._epoch}")
        order = generator.sample(range(len(self)), len(self))
        size, group = self._batch_size, self._batch_size * GROUP_BATCHES
        batches = []
        for start in range(0, len(order), group):
            alike = sorted(order[start : start + group], key=lambda i: -self._lengths[i])
            batches += [alike[first : first + size] for first in range(0, len(alike), size)]
        # A batch that is not full must stay last: another place would shift all that follow.
        last = [batches.pop()] if len(batches[-1]) < size else []
        generator.shuffle(batches)
        if batches:
            longest = max(range(len(batches)), key=lambda i: self._lengths[batches[i][0]])
            batches.insert(0, batches.pop(longest))
        for batch in batches + last:
            yield from batch


def collator(tokenizer: Any) -> Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]:
    """Pads to the longest of the batch: padding to 768 would make 94 % of the work padding."""

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = tokenizer.pad({"input_ids": [row["input_ids"] for row in rows]}, return_tensors="pt")
        return {
            "input_ids": batch["input_ids"],
            "attention_mask": batch["attention_mask"],
            "labels": torch.tensor([row["labels"] for row in rows]),
        }

    return collate


def star_targets(labels: torch.Tensor, count: int, smoothing: float, ordinal: bool) -> torch.Tensor:
    """Target distributions (n, count). `smoothing` of each goes to the neighbouring stars, or evenly to the others if
    not ordinal.
    """
    hard = one_hot(labels, count).float()
    if not smoothing:
        return hard
    if ordinal:
        neighbours = torch.zeros_like(hard)
        neighbours[:, 1:] += hard[:, :-1]
        neighbours[:, :-1] += hard[:, 1:]
    else:
        neighbours = 1 - hard
    return (1 - smoothing) * hard + smoothing * neighbours / neighbours.sum(dim=1, keepdim=True)


def loss_over(
    count: int, smoothing: float, ordinal: bool, weights: torch.Tensor | None = None
) -> Callable[..., torch.Tensor]:
    """Cross-entropy summed and divided by the reviews of the whole accumulated batch; `weights` (count,): what each
    label's reviews count.

    The Trainer believes that models which take **kwargs divide by num_items_in_batch; sequence classifiers do not,
    so accumulation would multiply loss and gradients (transformers 5.23, Trainer.training_step).
    """

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        targets = star_targets(labels, count, smoothing, ordinal)
        if weights is not None:
            targets = targets * weights.to(targets.device)[labels].unsqueeze(1)
        total = cross_entropy(outputs.logits.float(), targets, reduction="sum")
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    return loss
