"""Why a review got its label: integrated gradients on the embeddings, summed to words, and a deletion test of the
result.

A word's score is its share of the label's logit, above that of a blank review, in which each token is an average one.
Knows no page. Source: Sundararajan, Taly and Yan, Axiomatic Attribution for Deep Networks (2017), as captum computes
it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import cast

import numpy as np
import torch
from captum.attr import IntegratedGradients
from peft import PeftModel
from torch import nn
from transformers import PreTrainedTokenizerBase

from ...core.errors import ModelError, SettingsError
from ..models import modeling
from ..models.build import undisturbed
from .classifier import Classifier, check_texts
from .metrics import Floats, softmax

STEPS = 24  # points on the path from blank to the review; see benchmarks/attribution.md
AVERAGED = 1000  # tokens whose mean is the blank one
TOKENS_AT_ONCE = 1024  # of all points that are computed together: bounds the memory
SHARE, DRAWS, SEED = 0.2, 10, 0  # of the deletion test: words removed, random choices of as many words
FEWEST_WORDS = 5
STILL = 0.02  # a probability that moves less has not moved

# Scripts that put no spaces between words go letter by letter; the rest are runs of one kind, and every mark that is
# not listed (accents, vowel signs, joiners, direction marks) stays with its word.
_LETTER = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_PICTURE = "\u2600-\u27bf\U0001f000-\U0001faff"
_POINT = "!-/:-@\\[-`{-~¡-¿\u2010-\u2027\u2030-\u205e\u3000-\u303f\uff01-\uff0f\uff1a-\uff20"
_RUN = f"[^\\s{_LETTER}{_PICTURE}{_POINT}]+"
WORD = re.compile(
    f"[{_LETTER}]|[{_PICTURE}][{_PICTURE}\u200d\ufe0f]*|{_RUN}(?:(?:['’-]|(?<=\\d)[.,](?=\\d)){_RUN})*|[{_POINT}]+"
)


@dataclass(frozen=True)
class Word:
    """`text` is the review's [start:end], in characters; `score` in units of the logit, positive where it speaks for
    the label.
    """

    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class DeletionTest:
    """How far the label's probability moves without the `removed` words (of `words`) of the highest scores, and without
    random ones.

    top, and random (mean over `draws` choices): absolute differences of the probability. ratio: top / random. All three
    are None where the review is too short; `note` says in a sentence why the test is not telling, "" where it is."""

    words: int
    removed: int
    draws: int
    top: float | None
    random: float | None
    ratio: float | None
    note: str


@dataclass(frozen=True)
class Explanation:
    """Scores of the words that the model read: those of text[:seen].

    logit, blank_logit: the label's, for the review and for the blank one. completeness_error: the sum of all scores
    minus their difference, zero for infinitely many steps."""

    text: str
    label: str
    probability: float
    seen: int
    truncated: bool
    words: list[Word]
    logit: float
    blank_logit: float
    completeness_error: float
    deletion_test: DeletionTest

    def to_dict(self) -> dict[str, object]:
        """As `explain --json` prints it."""
        return asdict(self)


@dataclass(frozen=True)
class _Network:
    """What `Classifier.using` hands out."""

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    max_length: int


def explain(
    classifier: Classifier,
    text: str,
    *,
    label: str | None = None,
    steps: int = STEPS,
    base: bool = False,
    scale: float = 1.0,
) -> Explanation:
    """The words' part in the logit of `label` (the likeliest without one); `base` and `scale` as in Classifier.score.

    Raises DataError for a text that cannot be classified, SettingsError for an unknown label or another scale,
    ModelError for a tokenizer that does not say where its tokens lie."""
    check_texts([text])
    if label is not None and label not in classifier.labels:
        raise SettingsError({"label": f"There is no label {label!r}; choose one of {', '.join(classifier.labels)}."})
    with classifier.using(base, scale) as given, undisturbed():  # captum counts in the default dtype
        network = _Network(*given)
        ids, places, truncated = _encode(network, text)
        logits = _logits(network, [text])[0]
        target = int(np.argmax(logits)) if label is None else classifier.labels.index(label)
        scores, blank_logit = _attribute(network, ids, places, target, steps)
        seen = max((end for _, end in places), default=0) if truncated else len(text)
        words = _sum_words(text, seen, places, scores)
        test = _delete(network, text[:seen], words, target)
    logit, probability = float(logits[target]), float(softmax(logits[None])[0, target])
    error = float(scores.sum()) - (logit - blank_logit)
    return Explanation(
        text, classifier.labels[target], probability, seen, truncated, words, logit, blank_logit, error, test
    )


def _encode(network: _Network, text: str) -> tuple[torch.Tensor, list[tuple[int, int]], bool]:
    """Token ids (1, n), where each token lies in the text (start = end for special ones), and whether the end was cut
    off.
    """
    if not network.tokenizer.is_fast:
        raise ModelError(
            "This model's tokenizer does not say where its tokens lie in a text, so words cannot be explained."
        )
    limit = network.max_length
    encoded = network.tokenizer(text, truncation=True, max_length=limit, return_offsets_mapping=True)
    whole = network.tokenizer(text, truncation=False, verbose=False)["input_ids"]
    ids = torch.tensor([encoded["input_ids"]], device=next(network.model.parameters()).device)
    return ids, cast(list[tuple[int, int]], encoded["offset_mapping"]), len(whole) > limit


def _attribute(
    network: _Network, ids: torch.Tensor, places: Sequence[tuple[int, int]], target: int, steps: int
) -> tuple[Floats, float]:
    """Scores of the tokens (n,) and the blank review's logit. Special tokens are the same in the blank review."""
    network.model.eval()

    def label_logits(embeddings: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        with _embedded(network, ids, embeddings):
            return network.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float()

    with torch.no_grad():
        review = network.model.get_input_embeddings()(ids).float()
        typed = torch.tensor([end > start for start, end in places], device=ids.device)
        blank = torch.where(typed[None, :, None], _average_token(network), review)
        blank_logit = float(label_logits(blank, ids)[0, target])
    attributions = IntegratedGradients(label_logits).attribute(
        review.requires_grad_(),
        blank,
        target=target,
        additional_forward_args=(ids,),
        n_steps=steps,
        internal_batch_size=max(1, TOKENS_AT_ONCE // ids.shape[1]),
    )
    return attributions.detach()[0].sum(-1).double().cpu().numpy(), blank_logit


def _average_token(network: _Network) -> torch.Tensor:
    """The mean embedding (d,) of tokens from all over the vocabulary: what stands in each place of the blank review.

    Zeros would do for BERT; through norms without a mean (RMSNorm) the path from zero needs several times the steps.
    """
    own = cast(nn.Embedding, network.model.get_input_embeddings())
    # Its own dtype: another thread that builds a model meanwhile changes the default for all.
    ids = torch.linspace(0, own.weight.shape[0] - 1, AVERAGED, dtype=torch.float64, device=own.weight.device).long()
    return own(ids).float().mean(0)


@contextmanager
def _embedded(network: _Network, ids: torch.Tensor, embeddings: torch.Tensor) -> Iterator[None]:
    """The model with `embeddings` (b, n, d) in the place of those of `ids` (b, n), whatever the family does with ids
    besides.

    T5 embeds a review twice with shared weights; its decoder sees it one place to the right, after a start token.
    """
    own = network.model.get_input_embeddings()
    shared = [
        m for m in network.model.modules() if m is own or (isinstance(m, nn.Embedding) and m.weight is own.weight)
    ]

    def replace(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        if torch.equal(inputs[0], ids):
            return embeddings.to(output.dtype)
        return torch.cat([output[:, :1], embeddings[:, :-1].to(output.dtype)], dim=1)

    hooks = [module.register_forward_hook(replace) for module in shared]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _sum_words(text: str, seen: int, places: Sequence[tuple[int, int]], scores: Floats) -> list[Word]:
    """Words that begin in text[:seen], each with the scores of its tokens, and of the spaces before it that are tokens
    by themselves.

    A token on several words is shared by their letters in it.
    """
    spans = [match.span() for match in WORD.finditer(text) if match.start() < seen]
    sums, first = np.zeros(len(spans)), 0
    for (start, end), score in zip(places, scores, strict=True):
        if start == end or not spans:
            continue
        # Tokens come in the order of the text: a word that ends before one is behind for good.
        while first < len(spans) - 1 and spans[first][1] <= start:
            first += 1
        letters = {
            i: min(end, spans[i][1]) - max(start, spans[i][0]) for i in range(first, len(spans)) if spans[i][0] < end
        }
        letters = {i: count for i, count in letters.items() if count > 0} or {first: 1}
        for i, count in letters.items():
            sums[i] += score * count / sum(letters.values())
    return [Word(text[start:end], start, end, float(score)) for (start, end), score in zip(spans, sums, strict=True)]


def _delete(network: _Network, text: str, words: Sequence[Word], target: int) -> DeletionTest:
    """See DeletionTest; words are taken out of the text as it is, and what is left is read anew."""
    removed = max(1, round(SHARE * len(words)))
    if len(words) < FEWEST_WORDS:
        note = (
            f"The review has fewer than {FEWEST_WORDS} words: random ones are too often the top ones for the test to"
            " tell anything."
        )
        return DeletionTest(len(words), removed, DRAWS, None, None, None, note)
    drawing = np.random.default_rng(SEED)
    top = np.argsort([-word.score for word in words], kind="stable")[:removed]
    choices = [top, *(drawing.choice(len(words), removed, replace=False) for _ in range(DRAWS))]
    texts = [text, *(without(text, [words[i] for i in sorted(choice)]) for choice in choices)]
    likely = softmax(_logits(network, texts))[:, target]
    moved = np.abs(likely[1:] - likely[0])
    by_top, by_random = float(moved[0]), float(moved[1:].mean())
    note = (
        ""
        if max(by_top, by_random) >= STILL
        else "The label stays as likely whichever words go, so the ratio says little."
    )
    return DeletionTest(
        len(words), removed, DRAWS, by_top, by_random, by_top / by_random if by_random > 0 else None, note
    )


def without(text: str, words: Sequence[Word]) -> str:
    """The text without `words` (in its order), each taken out with the space before it."""
    kept, last = "", 0
    for word in words:
        kept, last = kept + text[last : word.start].rstrip(), word.end
    return (kept + text[last:]).strip()


def _logits(network: _Network, texts: Sequence[str]) -> Floats:
    return modeling.forward(network.model, network.tokenizer, texts, network.max_length).numpy()
