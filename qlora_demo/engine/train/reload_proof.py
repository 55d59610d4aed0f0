"""The reload proof: an adapter loaded in a fresh process, under another seed, must give the logits it gave when saved.

A head that was not saved comes back random, and is caught here because the seed differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch

from ...core.cancellation import Call, OnProgress
from ...core.errors import AdapterError, DemoError
from ...core.run_report import ReloadProof
from ..classify.classifier import Classifier
from ..classify.metrics import Floats

# Equal kernels on equal inputs: what remains is the order of additions. A lost head differs by 0.1 and more.
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.05, "float16": 0.05}


class _Request(TypedDict):
    """What the fresh process is to answer."""

    folder: str
    texts: list[str]
    seed: int


def prove(
    folder: Path, texts: Sequence[str], tuned: Floats, base: Floats, *, seed: int, compute_dtype: str, call: Call
) -> ReloadProof:
    """The differences between (n, k) logits of `texts` and those after a reload, which `call` puts into its process.

    Raises AdapterError when the adapter does not come back the same.
    """
    request: _Request = {"folder": str(folder.resolve()), "texts": list(texts), "seed": seed}
    try:
        again = call(reload, request)
    except DemoError as error:
        raise AdapterError(f"The saved adapter could not be loaded again: {error}") from None
    worst = float(np.abs(np.array(again["tuned"]) - tuned).max())
    worst_of_base = float(np.abs(np.array(again["base"]) - base).max())
    limit = TOLERANCE[compute_dtype]
    if not max(worst, worst_of_base) <= limit:  # also true of NaN
        raise AdapterError(
            f"The saved adapter does not come back the same: logits differ by {worst:.3g} "
            f"(untrained head by {worst_of_base:.3g}; allowed {limit:g}), so it is not kept."
        )
    return ReloadProof(max_logit_difference=worst, max_base_logit_difference=worst_of_base, texts=len(texts))


def reload(request: _Request, on_progress: OnProgress) -> dict[str, list[list[float]]]:
    """(n, k) logits of the tuned network and of the base, from an adapter that is loaded under the request's seed."""
    with torch.random.fork_rng():
        torch.manual_seed(request["seed"])
        classifier = Classifier(request["folder"])
        logits = {name: classifier.logits(request["texts"], base=name == "base") for name in ("tuned", "base")}
    return {name: found.tolist() for name, found in logits.items()}
