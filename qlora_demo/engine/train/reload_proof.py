"""The reload proof: an adapter loaded in a fresh process, under another seed, must give the logits it gave when saved.

`prove` starts the process; `python -m qlora_demo.engine.train.reload_proof FOLDER REQUEST SEED` is the process.
A head that was not saved comes back random, and is caught here because the seed differs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...core.errors import AdapterError
from ...core.run_report import ReloadProof
from .. import importing
from ..classify.metrics import Floats

# Equal kernels on equal inputs: what remains is the order of additions. A lost head differs by 0.1 and more.
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.05, "float16": 0.05}


def prove(
    folder: Path, texts: Sequence[str], tuned: Floats, base: Floats, seed: int, compute_dtype: str
) -> ReloadProof:
    """The differences between (n, k) logits and those of a fresh process.

    Raises AdapterError when the adapter does not come back the same.
    """
    tuned_again, base_again = _load_in_a_fresh_process(folder, texts, seed)
    result = ReloadProof(
        max_logit_difference=float(np.abs(tuned_again - tuned).max()),
        max_base_logit_difference=float(np.abs(base_again - base).max()),
        texts=len(texts),
    )
    limit = TOLERANCE[compute_dtype]
    if not max(result.max_logit_difference, result.max_base_logit_difference) <= limit:  # also true of NaN
        raise AdapterError(
            f"The saved adapter does not come back the same: logits differ by {result.max_logit_difference:.3g} "
            f"(untrained head by {result.max_base_logit_difference:.3g}; allowed {limit:g}), so it is not kept."
        )
    return result


def _load_in_a_fresh_process(folder: Path, texts: Sequence[str], seed: int) -> tuple[Floats, Floats]:
    """What `load` gives there; AdapterError where it cannot."""
    with tempfile.TemporaryDirectory() as place:
        request = Path(place) / "request.json"
        request.write_text(json.dumps({"texts": list(texts)}))
        arguments = (str(folder.resolve()), str(request), str(seed))
        done = subprocess.run(
            [sys.executable, "-m", "qlora_demo.engine.train.reload_proof", *arguments],
            capture_output=True,
            text=True,
            cwd=Path(__file__).resolve().parents[3],
            timeout=1800,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise AdapterError(f"The saved adapter could not be loaded again: {last[:200]}")
        logits = np.load(request.with_suffix(".npz"))
        return logits["tuned"], logits["base"]


def load(folder: Path, texts: Sequence[str], seed: int) -> tuple[Floats, Floats]:
    """(n, k) logits of the tuned network and of the base, from an adapter that is loaded under this seed."""
    with importing():
        import torch

        from ..classify.classifier import Classifier
    torch.manual_seed(seed)
    classifier = Classifier(str(folder))
    return classifier.logits(texts), classifier.logits(texts, base=True)


def main(folder: str, request: str, seed: str) -> None:
    tuned, base = load(Path(folder), json.loads(Path(request).read_text())["texts"], int(seed))
    np.savez(Path(request).with_suffix(".npz"), tuned=tuned, base=base)


if __name__ == "__main__":
    main(*sys.argv[1:])
