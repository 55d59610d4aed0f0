"""Temperature scaling: one number that makes a classifier's probabilities mean what they say.

Works on arrays of labels and logits. Knows neither models nor files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from ...core.run_report import Calibration
from .metrics import Floats, reliability, softmax

LOWEST, HIGHEST = 0.05, 20.0


def fit_temperature(labels: Sequence[int], logits: Floats) -> float:
    """The temperature by which `logits` (n, k) are best divided: that of the least cross-entropy (Guo et al. 2017,
    section 4.2).

    Between 0.05 and 20: where every review is right, colder is always better, and where all is chance, hotter.
    """
    optimum = minimize_scalar(
        lambda power: cross_entropy(labels, logits, math.exp(power)),
        bounds=(math.log(LOWEST), math.log(HIGHEST)),
        method="bounded",
    )
    return float(np.clip(math.exp(optimum.x), LOWEST, HIGHEST))


def cross_entropy(labels: Sequence[int], logits: Floats, temperature: float) -> float:
    """Mean cross-entropy of `logits` / `temperature`, in nats."""
    scaled = log_softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1)
    return float(-scaled[np.arange(len(labels)), np.asarray(labels, dtype=int)].mean())


def calibrate(labels: Sequence[int], logits: Floats, test_labels: Sequence[int], test_logits: Floats) -> Calibration:
    """A temperature fitted on validation reviews (`labels`, `logits`), and what it does to test reviews, which it never
    saw.

    Losses in nats; ece and bins as `evaluation.reliability` gives them. The likeliest label stays, so the other metrics
    do."""
    temperature = fit_temperature(labels, logits)
    before = reliability(test_labels, softmax(test_logits))
    after = reliability(test_labels, softmax(np.asarray(test_logits, dtype=np.float64) / temperature))
    return Calibration(
        temperature=temperature,
        ece_before=before.ece,
        ece_after=after.ece,
        loss_before=cross_entropy(test_labels, test_logits, 1.0),
        loss_after=cross_entropy(test_labels, test_logits, temperature),
        bins_after=after.bins,
    )
