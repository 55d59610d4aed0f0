"""The sentences below the phase, for curves of which it is known what they should say; each with the noise of small
batches."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable

import pytest

from qlora_demo.ui.train.curves_in_words import Evaluation, Step, read_curves

CHANCE = math.log(5)


def steps(shape: Callable[[float], float], count: int = 200, noise: float = 0.12, seed: int = 0) -> list[Step]:
    """`shape` of the share of the run that is done, from 0 to 1."""
    chance = random.Random(seed)
    return [(step, shape(step / count) + chance.gauss(0, noise)) for step in range(1, count + 1)]


def judged(losses: list[float], every: int = 20, accuracies: list[float] | None = None) -> list[Evaluation]:
    return [(n * every, loss, (accuracies or [0.5] * len(losses))[n]) for n, loss in enumerate(losses)]


def falling(done: float) -> float:
    return CHANCE - 0.9 * done


@pytest.mark.parametrize("count", [0, 1, 4])
def test_a_few_steps_say_nothing(count: int) -> None:
    said = read_curves(steps(falling, 200)[:count], [], labels=5)
    assert said == ("Too early to tell." if count else "")


@pytest.mark.parametrize("seed", range(5))
def test_guessing_and_not_moving(seed: int) -> None:
    flat = steps(lambda _: CHANCE, noise=0.08, seed=seed)
    for few, total in ((20, 200), (40, 2000)):  # the learning rate still warms up
        assert read_curves(flat[:few], [], labels=5, steps_total=total).startswith(
            "Still guessing: the loss is that of"
        )
    moving = "Not moving: after 200 steps the loss is no better than chance (1.609): raise the learning rate."
    assert read_curves(flat, judged([1.61, 1.608, 1.611]), labels=5, steps_total=300) == moving
    assert read_curves(flat[:20], [], labels=5, ended=True).startswith("Not moving: after 20 steps")


def test_an_untrained_head_may_cost_more_than_chance() -> None:
    said = read_curves(steps(lambda _: 2.1, 20), [], labels=5, steps_total=200)
    assert said.startswith("Still guessing: the loss (2.")


@pytest.mark.parametrize("seed", range(5))
def test_learning(seed: int) -> None:
    said = read_curves(steps(falling, seed=seed), judged([1.6, 1.42, 1.25, 1.05, 0.9, 0.72], every=40), labels=5)
    assert said == "Learning: the validation loss fell from 1.25 to 0.72 since step 80."
    assert read_curves(steps(falling, seed=seed), [], labels=5).startswith("Learning: the training loss fell from 1.")
    ended = read_curves(steps(falling, seed=seed), judged([1.6, 0.72], every=200), labels=5, ended=True)
    assert ended.startswith("Learned: the validation loss fell from 1.60 to 0.72") and "still falling" in ended


@pytest.mark.parametrize("seed", range(5))
def test_levelled_off(seed: int) -> None:
    curve = steps(lambda done: CHANCE - 0.8 * min(2.5 * done, 1), seed=seed)
    said = read_curves(curve, judged([1.6, 1.3, 1.1, 0.9, 0.81, 0.80, 0.805, 0.80, 0.81, 0.803, 0.80]), labels=5)
    assert said == "Levelled off since step 80: more steps bring little."


@pytest.mark.parametrize("seed", range(5))
def test_overfitting(seed: int) -> None:
    risen = judged([1.6, 1.3, 1.0, 0.9, 0.85, 0.88, 0.95, 1.04], every=25)
    said = read_curves(steps(falling, seed=seed), risen, labels=5)
    assert said.startswith("Overfitting since step 100: ")
    flat = steps(lambda done: 0.8 if done > 0.3 else 1.2, seed=seed)
    assert read_curves(flat, risen, labels=5).startswith("Past its best since step 100: ")
    assert "risen" not in read_curves(steps(falling), risen[:-1], labels=5), "two worse ones are not enough"


@pytest.mark.parametrize("seed", range(5))
def test_unstable(seed: int) -> None:
    chance = random.Random(seed)
    spikes = [(chance.random() < 0.3) * 2.5 * chance.random() + chance.gauss(0, 0.2) for _ in range(100)]
    wild = [(step, 1.7 + spike) for step, spike in enumerate(spikes, 1)]
    wild[-3:] = [(98, 3.5), (99, 2.8), (100, 4.0)]
    assert read_curves(wild, [], labels=5).startswith("Unstable: ")
    lost = steps(lambda done: 1.0 if 0.3 < done < 0.6 else CHANCE, seed=seed)
    said = read_curves(lost, [], labels=5)
    assert re.fullmatch(r"Unstable: the loss was (1\.0|0\.9)\d and is 1\.[56]\d now\. Lower the learning rate\.", said)


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_is_never_called_a_trend(seed: int) -> None:
    """Looked at after every step, as the page does."""
    flat = steps(lambda _: 1.2, 150, noise=0.35, seed=seed)
    chance = random.Random(seed)
    evaluations = judged([1.2 + chance.gauss(0, 0.004) for _ in range(8)])
    for count in range(5, 150, 5):
        said = read_curves(flat[:count], evaluations[: 1 + count // 20], labels=5, steps_total=150)
        assert not said.startswith(("Learning", "Overfitting", "Unstable", "Not moving")), (count, said)


def test_against_word_counts() -> None:
    losses, curve = [1.6, 1.3, 1.1, 0.9, 0.75], steps(falling)

    def against(*accuracies: float, ended: bool = False) -> str:
        found = judged(losses[: len(accuracies)], 40, list(accuracies))
        return read_curves(curve, found, labels=5, word_counts=0.64, ended=ended).partition(". ")[2]

    assert against(0.2, 0.4, 0.6, 0.66, 0.7) == "Better than word counts (TF-IDF) since step 120."
    assert against(0.2, 0.4, 0.6, 0.63, 0.66) == ""  # once may be luck
    assert against(0.2, 0.4, 0.6, 0.63, 0.66, ended=True) == "Better than word counts (TF-IDF) since step 160."
    assert against(0.2, 0.7, 0.6, 0.62) == "Not yet better than word counts (TF-IDF, 64.0 % right)."
    assert against(0.2, 0.4, 0.5, 0.6, ended=True) == "Not better than word counts (TF-IDF, 64.0 % right)."
    assert against(0.2, 0.4) == ""
    assert read_curves(curve, judged([1.6, 1.0]), labels=5).count(".") == 3, "no baseline, no second sentence"
