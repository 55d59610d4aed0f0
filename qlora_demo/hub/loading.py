"""The code by which anybody loads an adapter, with the libraries alone: base, precision and head as the app has them.
It is the template load.py.jinja; a test runs it.
"""

from __future__ import annotations

from ..core.run_report import RunReport
from .metadata import hub_base
from .templating import render

# As engine.models.layers has it: what is no part of the base, or sums it up, stays dense.
HEADS = r"(.*\.)?(score|classifier|classification_head|pre_classifier|pooler|head)"


def write_snippet(report: RunReport, base_name: str, *, repo: str = "", revision: str = "", max_length: int = 0) -> str:
    """Python source that loads the adapter `repo` (or this folder) on its base and classifies a review.

    max_length: tokens, 0 = as in the run's settings."""
    precision, compute = report.config.precision, report.environment.compute_dtype
    half = "bfloat16" if compute == "bfloat16" else "float16"  # as engine.models.modeling.load_base
    return render(
        "load.py.jinja",
        repo=repo,
        base=hub_base(base_name),
        revision=revision,
        labels=list(report.data.labels or report.final["test"].labels),
        four_bit=precision.startswith("nf4"),
        double=precision == "nf4-dq",
        compute=compute,
        half=half,
        dense="float32" if precision == "fp32" else half,
        heads=HEADS,
        # On a CPU a 4-bit or FP32 base needs no autocast: what is dense there is float32 already.
        mixed="True" if precision == "fp16" else 'device == "cuda"',
        max_length=max_length or report.config.max_length,
    ).rstrip("\n")
