"""Ready runs: the sample's, the tutorial's, a smoke test; and which of them fits a machine.

Knows settings, not what they do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .config import RunConfig


@dataclass(frozen=True)
class Preset:
    """A ready run: its settings, what it is for, and the least GPU memory (bytes; 0 = a CPU will do) it asks for."""

    name: str
    title: str
    summary: str
    config: RunConfig
    needs_hub: bool = False
    gpu_bytes: int = 0


GiB = 1024**3


def _amazon(model: str, **changes: Any) -> RunConfig:
    return RunConfig(model=model, data="amazon-reviews", **changes)


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "sample",
            "Short: MiniLM on the sample's reviews",
            "Runs anywhere in about two minutes: 3,197 reviews written for this project, 2 epochs.",
            RunConfig(),
        ),
        Preset(
            "smoke-test",
            "Smoke test: ten steps, seconds",
            "Shows within seconds that everything works, and learns next to nothing: ten steps on 160 of the sample's"
            " reviews.",
            RunConfig(rows=160, max_steps=10, batch_size=16, rank=8, max_length=64, evaluations=2, log_every=1),
        ),
        Preset(
            "gpt2-amazon",
            "The tutorial's: GPT-2 on Amazon reviews, mended",
            "The tutorial's recipe with its mistakes mended: 200,000 reviews, 3 epochs, rank 16, batch 224. Hours, on a"
            " GPU.",
            _amazon(
                "openai-community/gpt2",
                dropout=0.1,
                learning_rate=2e-5,
                batch_size=224,
                epochs=3,
                max_length=256,
                evaluations=6,
                log_every=10,
            ),
            needs_hub=True,
            gpu_bytes=14 * GiB,
        ),
        Preset(
            "distilbert-amazon",
            "DistilBERT on Amazon reviews",
            "A small, quick encoder: 20,000 reviews, 1 epoch.",
            _amazon(
                "distilbert/distilbert-base-uncased",
                rows=20_000,
                learning_rate=5e-4,
                batch_size=64,
                epochs=1,
                max_length=256,
            ),
            needs_hub=True,
            gpu_bytes=6 * GiB,
        ),
        Preset(
            "modernbert-amazon",
            "ModernBERT on Amazon reviews",
            "A modern encoder: 50,000 reviews, 1 epoch.",
            _amazon(
                "answerdotai/ModernBERT-base", rows=50_000, learning_rate=3e-4, batch_size=64, epochs=1, max_length=256
            ),
            needs_hub=True,
            gpu_bytes=10 * GiB,
        ),
        Preset(
            "qwen3-0.6b-amazon",
            "Qwen3 0.6B on Amazon reviews",
            "A small language model as a classifier: 50,000 reviews, 1 epoch.",
            _amazon("Qwen/Qwen3-0.6B", rows=50_000, learning_rate=2e-4, batch_size=32, epochs=1, max_length=256),
            needs_hub=True,
            gpu_bytes=14 * GiB,
        ),
        Preset(
            "qwen3-8b-amazon",
            "Qwen3 8B on Amazon reviews",
            "Where 4 bits pay: 8 billion parameters, 50,000 reviews, 1 epoch, for a GPU of 24 GB or more.",
            _amazon(
                "Qwen/Qwen3-8B",
                rows=50_000,
                learning_rate=1e-4,
                batch_size=16,
                accumulation=2,
                epochs=1,
                max_length=256,
                gradient_checkpointing=True,
            ),
            needs_hub=True,
            gpu_bytes=22 * GiB,
        ),
    )
}


def choose_preset(gpu_bytes: int, hub_reachable: bool) -> tuple[str, str]:
    """The preset that fits a machine, and the reason in words."""
    if gpu_bytes >= PRESETS["gpt2-amazon"].gpu_bytes and hub_reachable:
        return (
            "gpt2-amazon",
            f"a GPU with {gpu_bytes / GiB:.0f} GiB and the Hub are there: the tutorial's own recipe fits",
        )
    if not gpu_bytes:
        return "sample", "there is no GPU: the sample run is sized for a CPU"
    if not hub_reachable:
        return "sample", "the Hub cannot be reached: the sample needs nothing from it"
    return "sample", f"the GPU has {gpu_bytes / GiB:.0f} GiB, less than the tutorial's recipe asks for"
