"""The card of a merged model: what it is, how far it is from the adapter that it came from, and how it is loaded.

The adapter's own card says how good that is; nothing here was measured on the merged model but the differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.format import size
from ..storage.packs import Merging
from .markdown import table
from .metadata import check_licence, hub_base
from .templating import render


def write_merged_card(merging: Merging, note: Mapping[str, Any], *, licence: str = "") -> str:
    """README.md of a merged model. note: the adapter's qlora_demo.json. HubError
    for no licence.
    """
    from huggingface_hub import ModelCardData

    base = hub_base(str(note["base_name"]))
    extra: dict[str, Any] = {"base_model_relation": "finetune"} if base else {}
    head = ModelCardData(
        base_model=base or None,
        library_name="transformers",
        license=check_licence(licence) or None,
        pipeline_tag="text-classification",
        tags=["text-classification"],
        **extra,
    )
    rows = (
        ("test reviews compared", f"{merging.rows:,}"),
        ("same label as the adapter", f"{merging.same_label:.1%}"),
        ("largest difference of a logit", f"{merging.max_logit_difference:.3g}"),
        ("mean difference of a logit", f"{merging.mean_logit_difference:.3g}"),
        ("largest difference of a probability", f"{merging.largest_probability_difference:.3g}"),
        ("parameters", f"{merging.parameters:,}"),
        ("weights on disk", size(merging.bytes)),
    )
    differences, metadata = table(("", "measured"), rows), head.to_yaml(line_break="\n")
    return render(
        "merged_card.md.jinja", metadata=metadata, note=note, merging=merging, base=base, differences=differences
    )
