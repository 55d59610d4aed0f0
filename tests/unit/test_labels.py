"""What label values mean: scales, words, classes, what lies outside, and the list that a user gives."""

from __future__ import annotations

from collections import Counter

import pytest

from qlora_demo.core.errors import DataError
from qlora_demo.engine.data.labels import find_scale, stars_of

STARS = list("12345") * 20


@pytest.mark.parametrize(
    ("values", "names", "rule"),
    [
        (list("01234"), "0 1 2 3 4", "from 0 to 4"),
        (["0", "4"], "0 1 2 3 4", "from 0 to 4"),
        (["2", "5"], "1 2 3 4 5", "1 to 5"),
        (["1.0", "5.0"], "1 2 3 4 5", "1 to 5"),
        (["5 stars", "1 star", "three stars"], "1 2 3 4 5", "1 to 5"),
        (["4.0 out of 5 stars", "2/5"], "1 2 3 4 5", "1 to 5"),
        (["★★★", "★☆☆☆☆", "⭐⭐⭐⭐⭐"], "1 2 3 4 5", "1 to 5"),
        (["0.5", "1.5", "4,5", "5"], "1 2 3 4 5", "rounded up"),
        (["0", "1", "1"], "0 1", "two classes"),
        (["-1", "1", "0"], "-1 0 1", "-1 to 1"),
        ([str(i) for i in range(1, 11)], "1 2 3 4 5 6 7 8 9 10", "1 to 10"),
    ],
)
def test_numbers_are_stars(values: list[str], names: str, rule: str) -> None:
    scale = find_scale(Counter(values), "it")
    assert (" ".join(scale.names), scale.ordinal, scale.left_out) == (names, True, {}) and rule in scale.rule


@pytest.mark.parametrize(
    "words",
    [
        *("Very Negative|Negative|Neutral|Positive|Very Positive", "Poor|Fair|Good|Very Good|Excellent", "neg|pos"),
        *("very dissatisfied|dissatisfied|neutral|satisfied|very satisfied", "False|True", "no|yes", "low|medium|high"),
    ],
)
def test_words_keep_their_order(words: str) -> None:
    ordered = words.split("|")
    scale = find_scale(Counter(sorted(ordered)), "it")
    assert list(scale.names) == ordered and scale.ordinal
    assert [scale.index[word] for word in ordered] == list(range(len(ordered)))
    shouted = find_scale(Counter([*ordered, *ordered, *(word.upper().replace(" ", "_") for word in ordered)]), "it")
    assert list(shouted.names) == ordered and len(shouted.index) == 2 * len(ordered)


def test_half_stars_are_rounded_up() -> None:
    scale = find_scale(Counter(["0.5", "1", "1.5", "2.5", "4.5", "5"]), "it")
    assert scale.index == {"0.5": 0, "1": 0, "1.5": 1, "2.5": 2, "4.5": 4, "5": 4}


def test_other_sets_are_classes_without_an_order() -> None:
    scale = find_scale(Counter(["toys", "books", "Books", "books"]), "it")
    assert (scale.names, scale.index, scale.ordinal) == (("books", "toys"), {"books": 0, "Books": 0, "toys": 1}, False)
    assert not find_scale(Counter(["good", "bad", "ugly"]), "it").ordinal
    twenty = find_scale(Counter(f"class {i}" for i in range(20)), "it")
    assert len(twenty.names) == 20


@pytest.mark.parametrize(
    ("values", "left_out"),
    [
        ([*STARS, "7", "7", "-1", "n/a"], {"7": 2, "-1": 1, "n/a": 1}),
        ([*STARS, *["0"] * 11], {"0": 11}),
        ([*STARS, "1;5", "x"], {"1;5": 1, "x": 1}),
        ([*list("01234") * 20, "5"], {"5": 1}),
        ([*["0", "1"] * 50, "9"], {"9": 1}),
        (["pos", "neg", "N/A", "unknown"], {"N/A": 1, "unknown": 1}),
    ],
)
def test_a_few_values_outside_a_scale_are_left_out(values: list[str], left_out: dict[str, int]) -> None:
    scale = find_scale(Counter(values), "it")
    assert scale.left_out == left_out and scale.ordinal and not left_out.keys() & scale.index.keys()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([*STARS, *["7"] * 12], r"1 to 5 in 89% of its labelled rows only, and beside them '7' \(12 rows\)"),
        ([*STARS, *["spam"] * 60], r"1 to 5 in 62% .* 'spam' \(60 rows\)"),
        ([f"user {i}" for i in range(21)], "21 different labels; give 2 to 20"),
        ([str(i / 100) for i in range(100, 500)], "400 different labels"),
        (["x"], "one label only, 'x'"),
        ([], "no labels"),
    ],
)
def test_what_is_no_scale_is_refused(values: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_scale(Counter(values), "it")


def test_a_list_of_labels_decides() -> None:
    three = find_scale(Counter([*STARS, "3.0", "3 stars"]), "it", ["1", "2", "3"])
    assert (three.names, three.ordinal, three.left_out) == (("1", "2", "3"), True, {"4": 20, "5": 20})
    assert three.index["3.0"] == three.index["3 stars"] == 2
    six = find_scale(Counter([*STARS, "7"]), "it", list("123457"))
    assert six.names == tuple("123457") and six.ordinal and not six.left_out
    five = find_scale(Counter(["0", "1"]), "it", list("01234"))
    assert five.names == tuple("01234") and five.index == {"0": 0, "1": 1}
    words = find_scale(Counter(["toys", "BOOKS", "cars"]), "it", ["toys", "books"])
    assert (words.index, words.ordinal, words.left_out) == ({"toys": 0, "BOOKS": 1}, False, {"cars": 1})
    assert find_scale(Counter(["good", "bad"]), "it", ["bad", "good"]).ordinal
    assert not find_scale(Counter(["good", "bad"]), "it", ["good", "bad"]).ordinal, "the wrong way round is no order"


@pytest.mark.parametrize("chosen", [["1"], ["1", "1"], ["a", "A"], ["1", ""], [str(i) for i in range(21)]])
def test_a_list_that_is_none_is_refused(chosen: list[str]) -> None:
    with pytest.raises(DataError, match="are not 2 to 20 different ones"):
        find_scale(Counter(STARS), "it", chosen)


def test_a_list_that_fits_nothing_names_what_is_there() -> None:
    with pytest.raises(DataError, match="none of the labels x, y; its labels are 1, 2, 3, 4, 5"):
        find_scale(Counter(STARS), "it", ["x", "y"])


def test_what_says_no_number_has_none() -> None:
    assert [stars_of(label) for label in ("five star hotel", "4 stars and a half", "", "★ and more", "1e3", "½")] == [
        None
    ] * 6
