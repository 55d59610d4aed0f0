"""The tutorial's shape on a GPU: `python -m benchmarks.gpu`. Writes benchmarks/gpu.md.

GPT-2 with random weights and the sample's tokenizer, so that no hub is needed, at batch 224 and rank 16 on the sample's
reviews; a run for each optimizer, in a worker as the page starts it. What they learn means nothing; memory, speed and
energy are a real model's. `--rehearse` goes the same way with a tiny network and two steps, on a CPU too, and writes
nothing."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from qlora_demo.core.config import RunConfig
from qlora_demo.core.format import number, size
from qlora_demo.core.presets import PRESETS
from qlora_demo.engine.models import shapes, sources
from qlora_demo.engine.models.blueprint import read_blueprint
from qlora_demo.engine.models.device import choose_device
from qlora_demo.engine.models.random_weights import random_checkpoint
from qlora_demo.jobs import queue
from qlora_demo.jobs.store import Store

RESULT = Path(__file__).parent / "gpu.md"
LABELS = 5
OPTIMIZERS = ("adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit")
STEPS = {"max_steps": 60, "evaluations": 3, "log_every": 5}
NARROW = {"n_embd": 48, "n_layer": 1, "n_head": 4}
TINY = {"max_steps": 2, "evaluations": 1, "log_every": 1, "batch_size": 2, "max_length": 16, "rows": 64}
HEADER = (
    "| optimizer | reviews/s | peak, predicted | measured | error | GPU busy, mean | energy"
    " |\n|---|---|---|---|---|---|---|"
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rehearse", action="store_true", help="a tiny network, two steps; nothing is written")
    rehearse = parser.parse_args().rehearse
    device = choose_device()
    if device.kind != "cuda" and not rehearse:
        print(f"{device.reason} This needs a CUDA GPU; --rehearse goes the same way in small.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as place:
        model = write_gpt2(Path(place) / "gpt2", NARROW if rehearse else {})
        optimizers = OPTIMIZERS if device.kind == "cuda" else OPTIMIZERS[:1]  # the others need a GPU
        rows = [
            run(Store(Path(place) / "runs"), model, optimizer, TINY if rehearse else STEPS) for optimizer in optimizers
        ]
    page = (
        f"# The tutorial's shape on a GPU\n\n`python -m benchmarks.gpu`, {datetime.now(UTC):%Y-%m-%d}, {device.name},"
        f" torch {torch.__version__}, compute dtype {device.compute_dtype}. GPT-2 with random weights, NF4 with double"
        f" quantization, LoRA rank 16, batch 224, the sample's reviews, {STEPS['max_steps']} steps; batches are padded"
        f" to their longest review.\n\n{HEADER}\n" + "\n".join(rows) + "\n"
    )
    print(page)
    if not rehearse:
        RESULT.write_text(page)
    return 0


def write_gpt2(folder: Path, changes: dict[str, Any]) -> Path:
    """A folder like one that a hub gives: GPT-2's shape, random weights, and a tokenizer whose ids it knows."""
    torch.manual_seed(0)
    random_checkpoint(
        read_blueprint(AutoConfig.for_model(**{**(shapes.shape_of("gpt2") or {}), **changes}), LABELS), folder
    )
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copy(sources.resolve("sample").folder / name, folder / name)
    return folder


def run(store: Store, model: Path, optimizer: str, sizes: dict[str, Any]) -> str:
    """A whole run in a worker, followed to its end; its row. SystemExit where it fails."""
    settings = {
        **PRESETS["gpt2-amazon"].config.to_dict(),
        "model": str(model),
        "data": "sample",
        "optimizer": optimizer,
        **sizes,
    }
    job = queue.submit(store, "train", RunConfig.read(settings).to_dict())
    busy = []
    for batch in queue.follow(store, job, 0):
        busy += [
            event["utilization"] for event in batch if event["event"] == "gpu" and event["utilization"] is not None
        ]
    report, state = job.report(), job.state()
    if report is None or state.state != "done":
        raise SystemExit(
            f"{optimizer}: {state.error or state.state}\n{(job.folder / 'worker.log').read_text()[-2000:]}"
        )
    memory, energy = report["memory"], report["energy"]
    cells = (
        optimizer,
        number(report["training"]["reviews_per_second"], ".0f"),
        size(memory["predicted_peak_bytes"]),
        size(memory["peak_bytes"]),
        f"{memory['error']:+.1%}",
        f"{sum(busy) / len(busy):.0%}" if busy else "-",
        f"{energy['joules'] / 3600:.2f} Wh" if energy else "-",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
