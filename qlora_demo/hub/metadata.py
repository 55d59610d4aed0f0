"""The head of a model card: what the Hub reads of it, written by huggingface_hub's own classes.

Numbers come from the report as they are. Knows nothing of the card's text.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any

from ..core.errors import HubError
from ..core.paths import is_data_file
from ..core.run_report import RunReport
from ..storage.packs import LICENCES
from .markdown import one_line

SAMPLES = ("sample", "sample-mix")
AMAZON = ("mteb/amazon_reviews_multi", "SetFit/amazon_reviews_multi_en", "mteb/AmazonReviewsClassification")
_ID = re.compile(r"\w[\w.-]{0,95}(/\w[\w.-]{0,95})?", re.ASCII)


def check_licence(licence: str) -> str:
    """`licence` if the Hub knows it, or "" for none. Raises HubError."""
    if licence and licence not in LICENCES:
        raise HubError(
            f"The licence {licence[:40]!r} is none that the Hub knows; choose one of {', '.join(LICENCES)}, or none."
        )
    return licence


def hub_base(base_name: str) -> str:
    """The base's id on the Hub; "" for a folder on somebody's machine, whose path is nobody's business."""
    local = not _ID.fullmatch(base_name) or PurePath(base_name).is_absolute()
    return "" if local else base_name


def public_name(setting: str, value: str) -> str:
    """What a `setting` that may be a path is called in public: a file by its name, a folder as one beside (`./name`),
    as no Hub id is.
    """
    if not PurePath(value).is_absolute():
        return value
    name = PurePath(value).name or "folder"
    return name if setting == "data" and is_data_file(name) else f"./{name}"


def hub_data(report: RunReport) -> str:
    """The id of the data set on the Hub; "" for the sample, for a file and for a folder."""
    source, name = report.config.data, report.data.name
    local = source in SAMPLES or is_data_file(source) or PurePath(source).is_absolute()
    return name if not local and source[:1] not in (".", "/", "~") and _ID.fullmatch(name) else ""


def language(report: RunReport) -> str:
    """The reviews' language where it is known, as the Hub writes it; "" where it is not."""
    if report.config.data in SAMPLES:
        return "en"
    return (report.config.data_config or "en") if hub_data(report) in AMAZON else ""


def write_metadata(report: RunReport, base_name: str, *, title: str, licence: str = "", revision: str = "") -> str:
    """The YAML between the lines of three dashes, those included. Raises HubError for a licence that is none."""
    from huggingface_hub import ModelCardData

    base, data, tongue = hub_base(base_name), hub_data(report), language(report)
    results = _results(report)
    extra: dict[str, Any] = {"base_model_relation": "adapter"} if base else {}
    if base and revision:
        extra["base_model_revision"] = revision
    card = ModelCardData(
        base_model=base or None,
        datasets=[data] if data else None,
        language=tongue or None,
        library_name="peft",
        license=check_licence(licence) or None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)),
        model_name=one_line(title),
        eval_results=results,
        pipeline_tag="text-classification",
        tags=[*(["qlora"] if report.config.precision.startswith("nf4") else []), "lora", "text-classification"],
        **extra,
    )
    return f"---\n{card.to_yaml(line_break=chr(10))}\n---"


def _results(report: RunReport) -> list[Any]:
    """The test metrics of the report, as the model-index has them; those that mean nothing for these labels are left
    out.
    """
    from huggingface_hub import EvalResult

    test, data, config = report.final["test"], hub_data(report), report.config
    # What shows a card may show its head as Markdown, too, which knows no escapes that YAML would not take for the
    # name.
    name = re.sub(r"[<>`$]", "_", one_line(report.data.name)) or "reviews"
    metrics: tuple[tuple[str, str, str, dict[str, Any] | None], ...] = (
        ("accuracy", "accuracy", "Accuracy", None),
        ("macro_f1", "f1", "Macro F1", {"average": "macro"}),
        ("mae_stars", "mae", "Mean error in stars", None),
        ("quadratic_kappa", "cohen_kappa", "Quadratic kappa", {"weights": "quadratic"}),
        ("loss", "loss", "Cross-entropy, nats", None),
    )
    return [
        EvalResult(
            task_type="text-classification",
            task_name="Star rating" if report.data.ordinal else "Text classification",
            # The Hub wants an id here; what is not on it gets a word that is none.
            dataset_type=data or "reviews",
            dataset_name=name,
            dataset_config=(config.data_config or None) if data else None,
            dataset_revision=(report.data.revision or None) if data else None,
            dataset_split="test",
            metric_type=kind,
            metric_name=label,
            metric_args=arguments,
            metric_value=getattr(test, key),
        )
        for key, kind, label, arguments in metrics
        if getattr(test, key) is not None
    ]
