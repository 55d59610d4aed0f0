"""Base and adapter made one: a standalone FP16 model without PEFT and bitsandbytes, and how far its answers are from
the adapter's.

The adapter is added to the dense base, never to 4-bit weights: rounding them again would destroy it. The dense base is
not the one that the adapter was trained on, so the logits differ; by how much is measured. Knows nothing of cards and
of the Hub."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from ...core.cancellation import OnProgress, silent
from ...core.errors import DeviceError, ModelError
from ...core.format import size
from ...core.safety import MERGE_BYTES_PER_PARAMETER
from ...storage.packs import Merging
from ..data.dataset import load_rows
from ..models import modeling
from ..models.device import choose_device, free_memory_bytes
from .metrics import softmax
from .restored import restore_weights

PIECE = "5GB"  # of a large model's weights


def merge(adapter: Path, into: Path, texts: Sequence[str], on_progress: OnProgress = silent) -> Merging:
    """Writes the merged model of the adapter in `adapter` into the folder `into`, which must not exist, and holds it
    against the adapter.

    The merged model, as it is read back from the folder at FP16, and the adapter on its own base at its own precision
    answer `texts`, both on the CPU. Raises DemoErrors."""
    if into.exists():
        raise ModelError(f"{into.name} exists already; give another name, or remove it.")
    device = choose_device("cpu")
    on_progress("loading the adapter on its own base", 0.05)
    own = modeling.load_adapter(adapter, device)
    together = own.model.get_nb_trainable_parameters()[1]
    needed, free = MERGE_BYTES_PER_PARAMETER * together, free_memory_bytes("cpu")
    if needed > free:
        raise DeviceError(
            f"Merging needs about {size(needed)} of memory for {together:,} parameters, and {size(free)} are free;"
            " merge on a larger machine."
        )
    restore_weights(own.model)  # as a typed review is answered
    expected = modeling.forward(own.model, own.tokenizer, texts, own.note.max_length).numpy()
    note = own.note
    del own
    gc.collect()

    on_progress("adding the adapter to the dense base", 0.3)
    draft = into.with_name(f"{into.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    _save_merged(adapter, draft)
    gc.collect()

    on_progress("reading it back, and comparing", 0.7)
    merged = AutoModelForSequenceClassification.from_pretrained(
        draft, dtype=torch.float16, local_files_only=True
    ).eval()
    parameters = int(sum(parameter.numel() for parameter in merged.parameters()))
    tokenizer = AutoTokenizer.from_pretrained(draft, local_files_only=True)
    restore_weights(merged)
    logits = modeling.forward(merged, tokenizer, texts, note.max_length).numpy()
    if not np.isfinite(logits).all():
        shutil.rmtree(draft)
        raise ModelError(
            "The merged model gives no finite numbers at FP16, being too large for it in places; use the adapter as"
            " it is."
        )
    report = Merging(
        parameters=parameters,
        bytes=sum(file.stat().st_size for file in draft.glob("*.safetensors")),
        trained_at=note.precision,
        rows=len(texts),
        max_logit_difference=float(np.abs(logits - expected).max()),
        mean_logit_difference=float(np.abs(logits - expected).mean()),
        largest_probability_difference=float(np.abs(softmax(logits) - softmax(expected)).max()),
        same_label=float(np.mean(logits.argmax(1) == expected.argmax(1))),
    )
    (draft / "merging.json").write_text(json.dumps(report.to_dict(), indent=2) + "\n")
    draft.rename(into)
    return report


def comparison_texts(run: Path | None, rows: int) -> list[str]:
    """Test reviews to hold a merged model against its adapter: those of the adapter's run where they were kept, else
    the sample's.
    """
    answers = run / "answers.jsonl" if run else None
    if answers and answers.is_file():
        lines = map(json.loads, answers.read_text(encoding="utf-8").splitlines())
        if texts := [line["text"] for line in lines if line["split"] == "test"]:
            return texts[:rows]
    return load_rows("sample").splits["test"].texts[:rows]


def _save_merged(adapter: Path, folder: Path) -> None:
    """Added up in float32, saved at FP16."""
    dense = modeling.load_adapter(adapter, choose_device("cpu"), "fp32")
    merged: Any = dense.model.merge_and_unload()
    merged.config.use_cache = True
    merged.to(torch.float16).save_pretrained(folder, max_shard_size=PIECE)
    dense.tokenizer.save_pretrained(folder)
