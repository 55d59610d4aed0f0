"""Why a review got its label: scores add up in each family of models, lie on the words, and name those that count."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from qlora_demo.__main__ import main
from qlora_demo.core.errors import DataError, SettingsError
from qlora_demo.engine.classify.classifier import Classifier
from qlora_demo.engine.classify.explain import FEWEST_WORDS, WORD, Explanation, explain
from qlora_demo.engine.data import dataset as reviews_of
from qlora_demo.engine.models import modeling, sources
from qlora_demo.engine.models.device import choose_device, cpu_multiplies
from tests.families import FAMILIES, family_case, make_family

LABELS = [str(star) for star in range(1, 6)]
REVIEW = "I love this  product\n😀!! don't  <script> היי: 4.5 stars"
HOSTILE = [
    "<script>alert('x')</script> & &amp; **bold** $x^2$",
    "👩‍👩‍👧👍🏽 🇩🇪 gut!!! fünf",
    "\u202eevil\u202c שלום, עולם! مرحبا بالعالم",
    "很好用，但是电池不行。とても良い हिन्दी में अच्छा é e\u0301",
    "a\x00b\x07c \r\n\t d\u200be\ufeff f",
    "[SEP] [PAD] </s> <|endoftext|> [MASK] it works",
    "x" * 3_000 + " bad",
    "!" * 500,
    "\U0010ffff \u0378 ﷽ ꧅",
]


@pytest.fixture(scope="module")
def sample() -> Classifier:
    """As the page has it."""
    return Classifier("sample", on_cpu=True, restored=True)


def make_adapter(family: str, odd: bool, folder: Path) -> Classifier:
    """A tiny random model of the family in 4 bits, with LoRA and a head that are random too."""
    source = sources.resolve(str(make_family(family, folder / "base", odd)))
    # float32 throughout: what is tested is the sum, not the rounding of bfloat16.
    base = modeling.load_base(source, LABELS, "nf4-dq", replace(choose_device("cpu"), compute_dtype="float32"))
    model = modeling.attach_lora(base, rank=4, alpha=8, dropout=0, targets="all-linear")
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(0, 0.1)
    facts = (str(source.folder), source.base_name, "", LABELS, True, "nf4-dq", "float32", 64)
    note = modeling.AdapterNote(*facts, base.tokenizer.pad_token_id)
    modeling.save_adapter(model, base.tokenizer, note, folder / "adapter")
    return Classifier(str(folder / "adapter"), on_cpu=True)


@pytest.mark.parametrize(("family", "odd"), map(family_case, FAMILIES))
def test_scores_add_up_in_each_family(family: str, odd: bool, tmp_path: Path) -> None:
    classifier = make_adapter(family, odd, tmp_path)
    found = explain(classifier, REVIEW, steps=64)
    check_words(found)
    scores = np.array([word.score for word in found.words])
    assert abs(scores).max() > 1e-5 and np.count_nonzero(scores) == len(scores)
    # The logit is that of an ordinary pass, so this also says that the embeddings put in place are the model's own.
    missed = scores.sum() - (found.logit - found.blank_logit)
    assert abs(missed) <= 0.02 * abs(scores).sum()
    assert found.completeness_error == pytest.approx(missed, abs=1e-4)
    assert found.probability == pytest.approx(classifier.classify([REVIEW])[0].probabilities[found.label], abs=1e-5)


def check_words(found: Explanation) -> None:
    """Words lie where they say, in order, and every character that is no space belongs to one."""
    assert all(found.text[word.start : word.end] == word.text for word in found.words)
    read = found.text[: max(found.seen, found.words[-1].end)]
    assert "".join(word.text for word in found.words) == "".join(read.split())
    assert all(np.isfinite(word.score) for word in found.words)


@pytest.mark.slow
def test_top_words_move_the_sample_further_than_random_ones(sample: Classifier) -> None:
    """With fewer steps than usual: they find the same words, and the whole test split is judged by
    benchmarks/attribution.py."""
    texts = reviews_of.load("sample").splits["test"].texts[:30]
    found = [explain(sample, text, steps=6) for text in texts]
    tests = [one.deletion_test for one in found if one.deletion_test.top is not None]
    assert len(tests) >= 25
    assert np.mean([test.top for test in tests]) >= 2 * np.mean([test.random for test in tests])
    assert [one.label for one in found] == [one.label for one in sample.classify(texts)]
    for one in found:
        check_words(one)


def test_scores_of_the_sample_add_up(sample: Classifier) -> None:
    found = [explain(sample, text) for text in reviews_of.load("sample").splits["test"].texts[30:36]]
    for one in found:
        missed = sum(word.score for word in one.words) - (one.logit - one.blank_logit)
        assert missed == pytest.approx(one.completeness_error, abs=1e-4)
    missed = [abs(one.completeness_error) for one in found]
    assert np.median(missed) < 0.05 * np.median([abs(one.logit - one.blank_logit) for one in found])


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_any_text_is_explained_as_typed(sample: Classifier, text: str) -> None:
    found = explain(sample, text, steps=2)
    assert found.text == text
    check_words(found)
    json.dumps(found.to_dict(), allow_nan=False).encode()


def test_a_long_text_is_explained_as_far_as_it_is_read(sample: Classifier) -> None:
    text = "It works as it should. " * 60 + "Terrible, broke at once."
    found = explain(sample, text, steps=4)
    assert found.truncated and 100 < found.seen < len(text) and text[: found.seen].endswith("should.")
    check_words(found)
    assert found.words[-1].end == found.seen
    assert found.label == sample.classify([text])[0].label
    same = explain(sample, text[: found.seen], steps=4)
    assert not same.truncated and same.deletion_test == found.deletion_test
    short = explain(sample, "It works.", steps=2)
    assert not short.truncated and short.seen == 9


def test_a_word_speaks_for_one_label_and_against_another(sample: Classifier) -> None:
    text = "Terrible headphones, they broke after one day."
    spoken = {
        label: {word.text: word.score for word in explain(sample, text, label=label, steps=8).words}
        for label in ("1 star", "5 stars")
    }
    assert spoken["1 star"]["Terrible"] > 1 and spoken["1 star"]["broke"] > 0.2
    assert spoken["5 stars"]["Terrible"] < 0 and spoken["5 stars"]["broke"] < -0.2


def test_each_way_to_hold_the_weights_is_explained_alike(sample: Classifier) -> None:
    text = "Terrible headphones, they broke after one day."
    expected = explain(sample, text, steps=4)
    scores = [word.score for word in expected.words]
    packed = explain(Classifier("sample", on_cpu=True), text, steps=4)
    if cpu_multiplies(getattr(torch, sample.note.compute_dtype)):
        assert packed == expected, "to the last bit"
    dense = explain(Classifier("sample", on_cpu=True, precision="fp16"), text, steps=4)
    for found, alike in ((packed, 0.99), (dense, 0.9)):
        assert found.label == expected.label
        assert np.corrcoef([word.score for word in found.words], scores)[0, 1] > alike
    dialled = explain(sample, text, steps=4, scale=0.5)
    halfway = sample.classify([text], scale=0.5)[0].probabilities[dialled.label]
    assert dialled.probability == pytest.approx(halfway, abs=1e-6)


def test_the_base_is_explained_as_itself_and_nothing_stays_behind(sample: Classifier) -> None:
    text = "Great sound, but the battery barely lasts an afternoon."
    before, untrained = sample.classify([text])[0], sample.classify([text], base=True)[0]
    tuned, base = explain(sample, text, steps=4), explain(sample, text, steps=4, base=True)
    assert tuned.probability == pytest.approx(before.probabilities[tuned.label], abs=1e-6)
    assert base.label == untrained.label
    assert base.probability == pytest.approx(untrained.probabilities[base.label], abs=1e-6)
    assert [word.score for word in base.words] != [word.score for word in tuned.words]
    assert sample.classify([text])[0] == before and sample.classify([text], base=True)[0] == untrained
    assert explain(sample, text, steps=4) == tuned, "the random choices are the same at every call"
    assert all(parameter.grad is None for parameter in sample._loaded.model.parameters())


@pytest.mark.slow
def test_others_may_classify_meanwhile(sample: Classifier) -> None:
    text, other = "It is okay, nothing special, but it does what it should.", "Broke after two days. Terrible."
    alone, expected = explain(sample, text, steps=4), sample.classify([other], base=True)
    found: list[Explanation] = []
    at_work = threading.Thread(target=lambda: found.extend(explain(sample, text, steps=4) for _ in range(3)))
    at_work.start()
    answers = [sample.classify([other], base=True) for _ in range(10)]
    at_work.join()
    assert found == [alone] * 3 and answers == [expected] * 10


@pytest.mark.parametrize("text", ["bad", "Not bad at all", "!!!"])
def test_a_short_text_is_not_tested(sample: Classifier, text: str) -> None:
    found = explain(sample, text, steps=2)
    assert found.deletion_test.top is found.deletion_test.ratio is None
    assert f"fewer than {FEWEST_WORDS} words" in found.deletion_test.note


@pytest.mark.parametrize(
    ("text", "label", "error", "words"),
    [
        (" \n", None, DataError, "is empty"),
        ("bad \udcff byte", None, DataError, "half a character"),
        ("x" * 50_001, None, DataError, "50,001 characters"),
        ("fine", "6 stars", SettingsError, "no label '6 stars'; choose one of 1 star, "),
    ],
)
def test_what_cannot_be_explained_is_refused(
    sample: Classifier, text: str, label: str | None, error: type, words: str
) -> None:
    with pytest.raises(error, match=words):
        explain(sample, text, label=label)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's a well-made 4.5 out of 5, isn’t it?!", "It's|a|well-made|4.5|out|of|5|,|isn’t|it|?!"),
        ("good,bad/ugly... (no)", "good|,|bad|/|ugly|...|(|no|)"),
        ("电池不行。ok", "电|池|不|行|。|ok"),
        ("हिन्दी e\u0301te\u0301", "हिन्दी|e\u0301te\u0301"),
        ("great👍🏽!👩‍👩‍👧", "great|👍🏽|!|👩‍👩‍👧"),
        ("\u200fשלום\u200f, טוב", "\u200fשלום\u200f|,|טוב"),
    ],
)
def test_what_a_word_is(text: str, words: str) -> None:
    assert WORD.findall(text) == words.split("|")


def test_the_command(capfd: pytest.CaptureFixture[str]) -> None:
    text = "<b>Great</b> sound, but the battery barely lasts an afternoon."
    assert main(["explain", "--adapter", "sample", "--json", text]) == 0
    found = json.loads(capfd.readouterr().out)
    assert {"label", "words", "deletion_test"} <= found.keys()
    assert all(word.keys() == {"text", "start", "end", "score"} for word in found["words"])
    assert found["deletion_test"]["ratio"] > 0
    assert main(["explain", "--adapter", "sample", "bad \udcff"]) == 2
    assert "half a character" in capfd.readouterr().err
