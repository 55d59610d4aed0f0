"""What public memory calculators give for a model, by the formulas that they publish: one table, and the arithmetic.

Each formula was read where it is published and is written anew here; none of it is how this app counts (see ledger.py,
training_step.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...core.memory_report import Estimate

Shape = Mapping[str, Any]
WIDTH, LAYERS = ("hidden_size", "n_embd", "dim"), ("num_hidden_layers", "n_layer", "n_layers")
HEADS = ("num_attention_heads", "n_head", "n_heads")

# name: (where it is published, which version was read)
CALCULATORS = {
    "accelerate estimate-memory": ("accelerate, accelerate/commands/estimate.py, gather_data", "version 1.15.0"),
    "M = P · 4 B / (32 / Q) · 1.2": (
        "substratus.ai/blog/calculating-gpu-memory-for-llm; as P · Q / 8 · 1.2 in"
        " modal.com/blog/how-much-vram-need-inference",
        "pages as stored in November 2026",
    ),
    "gpu_poor": (
        "github.com/RahulSChand/gpu_poor, src/App.js, computeModelSize and convertToMBModelSize",
        "commit 05d18ab",
    ),
    "Unsloth Studio": (
        "github.com/unslothai/unsloth, studio/backend/utils/hardware/VRAM_ESTIMATION.md, section 1",
        "commit 04f9560",
    ),
    "EleutherAI cookbook": (
        "github.com/EleutherAI/cookbook, calc/calc_transformer_mem.py, with its defaults",
        "commit 069ae2e",
    ),
}
ACCELERATE, SERVING, GPU_POOR, UNSLOTH, COOKBOOK = CALCULATORS

ALL_AT_ONCE = (
    "It gives every parameter the same bits; embeddings, norms and head are not quantized, and constants come on top."
)
GATED = "It counts three MLP matrices per layer, as Llama has; GPT-2 and BERT have two."
UNTIED = "It counts the token embedding twice; where the head is tied to it, or is a classifier's, it is there once."
QUANTIZES_ALL = f"{GATED} {UNTIED} Then it quantizes all of it: the two errors pull against each other."
KEPT = "embeddings and norms stay FP16, as they do"


@dataclass(frozen=True)
class Formula:
    """One line of a calculator. weights: its bytes from (parameters, shape), None where it does not apply; total: all
    that it gives, where that is more than the weights; needs_shape: whether a count alone does not do.
    """

    calculator: str
    formula: str
    quantity: str
    why: str
    weights: Callable[[int, Shape], int | None]
    total: Callable[[int], int] | None = None
    needs_shape: bool = True


FORMULAS = (
    Formula(
        *(ACCELERATE, "FP32 bytes / 2", "fp16", "Two bytes per parameter: right for FP16."),
        weights=lambda count, shape: accelerate_bytes(count, 16),
        needs_shape=False,
    ),
    Formula(
        *(ACCELERATE, "FP32 bytes / 8", "nf4-dq", ALL_AT_ONCE),
        weights=lambda count, shape: accelerate_bytes(count, 4),
        needs_shape=False,
    ),
    Formula(
        *(SERVING, "2 bytes per parameter, and a fifth more for serving", "fp16"),
        "Its weights are right for FP16; the fifth for serving is no part of them.",
        weights=lambda count, shape: accelerate_bytes(count, 16),
        total=lambda count: serving_bytes(count, 16),
        needs_shape=False,
    ),
    Formula(
        *(SERVING, "half a byte per parameter, and a fifth more for serving", "nf4-dq", ALL_AT_ONCE),
        weights=lambda count, shape: accelerate_bytes(count, 4),
        total=lambda count: serving_bytes(count, 4),
        needs_shape=False,
    ),
    Formula(
        *(GPU_POOR, "2 bytes · (2 V H + L (4 H² + 3 H M))", "fp16", f"{GATED} {UNTIED}"),
        weights=lambda count, shape: gpu_poor_bytes(shape, "fp16"),
    ),
    Formula(
        *(GPU_POOR, "FP16 / 4 + 6 % of FP16", "nf4", QUANTIZES_ALL),
        weights=lambda count, shape: gpu_poor_bytes(shape, "nf4"),
    ),
    Formula(
        *(GPU_POOR, "FP16 / 4 + 6 % of FP16 − 1/32 of a byte per parameter", "nf4-dq", QUANTIZES_ALL),
        weights=lambda count, shape: gpu_poor_bytes(shape, "nf4-dq"),
    ),
    Formula(
        *(UNSLOTH, "2 bytes · (matrices + embeddings + norms)", "fp16", GATED),
        weights=lambda count, shape: unsloth_bytes(shape, "fp16"),
    ),
    Formula(
        *(UNSLOTH, "matrices · 2 / 3.2 + the rest · 2", "nf4"),
        f"{GATED} It takes 5 bits for a quantized weight, where NF4 takes 4.5; {KEPT}.",
        weights=lambda count, shape: unsloth_bytes(shape, "nf4"),
    ),
    Formula(
        *(UNSLOTH, "matrices · 2 / 3.6 + the rest · 2", "nf4-dq"),
        f"{GATED} It takes 4.44 bits for a quantized weight, where NF4 takes 4.13; {KEPT}.",
        weights=lambda count, shape: unsloth_bytes(shape, "nf4-dq"),
    ),
    Formula(
        *(COOKBOOK, "2 bytes · (2 V H + H S + 8 H L + 2 H + 4 L H² + 2 L H M)", "fp16"),
        "It counts the token embedding twice, two MLP matrices per layer (Llama has three), and for GPT-2 twice its"
        " 1,024 positions.",
        weights=lambda count, shape: cookbook_bytes(shape),
    ),
)


def estimates(parameters: int, shape: Shape | None = None) -> list[Estimate]:
    """What each calculator gives for a model of so many parameters, in bytes; those that ask for the shape only where
    it is given.

    parameters: of the base model, without a head. shape: its configuration as a mapping, names as in config.json.
    """
    rows = []
    for line in FORMULAS:
        if line.needs_shape and shape is None:
            continue
        weights = line.weights(parameters, shape or {})
        if weights is not None:
            total = line.total(parameters) if line.total else weights
            names = line.calculator, *CALCULATORS[line.calculator]
            rows.append(Estimate(*names, line.formula, line.quantity, weights, total, line.why))
    return rows


def accelerate_bytes(parameters: int, bits: int) -> int:
    """FP32 bytes, divided by 2 for 16 bits, by 4 for 8, by 8 for 4; constants and what stays dense are not asked
    about.
    """
    return 4 * parameters * bits // 32


def serving_bytes(parameters: int, bits: int) -> int:
    """Bytes to serve a model loaded with so many bits: the weights, and 20 % for key-value cache and the like."""
    return round(parameters * 4 / (32 / bits) * 1.2)


def gpu_poor_bytes(shape: Shape, stage: str) -> int:
    """What gpu_poor calls "Model Size": no quantization (fp16), bnb_q4 (nf4), QLoRA (nf4-dq). What config.json lacks
    takes its defaults.
    """
    width = _first(shape, ("hidden_size", "d_model", "n_embd"), 768)
    vocabulary, layers = (
        _first(shape, ("vocab_size",), 32000),
        _first(shape, ("num_layers", "num_hidden_layers", "n_layer"), 12),
    )
    inner = _first(shape, ("intermediate_size", "n_inner", "d_ff"), 4 * width)
    dense = 2 * (2 * vocabulary * width + layers * (4 * width * width + 3 * inner * width))
    if stage == "fp16":
        return dense
    return round(dense / 4 + 0.06 * dense - (dense / 64 if stage == "nf4-dq" else 0))


def unsloth_bytes(shape: Shape, stage: str) -> int | None:
    """Model weights of Unsloth Studio: LoRA or full (fp16), QLoRA (nf4), QLoRA with double quantization stated
    (nf4-dq); None for a shape that it derives otherwise.
    """
    if not fits_unsloth(shape):
        return None
    width, layers, heads = (_known(shape, names) for names in (WIDTH, LAYERS, HEADS))
    keys = width // heads * int(shape.get("num_key_value_heads") or heads)
    inner = int(shape.get("intermediate_size") or 4 * width)
    matrices = layers * ((2 * width + 2 * keys) * width + 3 * width * inner)
    embeddings = int(shape["vocab_size"]) * width * (1 if shape.get("tie_word_embeddings", True) else 2)
    factor = {"fp16": 1.0, "nf4": 3.2, "nf4-dq": 3.6}[stage]
    return round(2 * matrices / factor + 2 * (embeddings + 2 * width * layers))


def fits_unsloth(shape: Shape) -> bool:
    """Whether section 1's formula is what Unsloth applies: it derives models with heads of another width, or experts,
    otherwise.
    """
    if not all(_known(shape, names) for names in (WIDTH, LAYERS, HEADS, ("vocab_size",))):
        return False
    width, heads = _known(shape, WIDTH), _known(shape, HEADS)
    experts = any(shape.get(name) for name in ("num_local_experts", "num_experts", "n_routed_experts"))
    return not experts and int(shape.get("head_dim") or width // heads) * heads == width


def cookbook_bytes(shape: Shape) -> int | None:
    """The model's memory in mixed precision by the cookbook's own count of parameters; None where its names are not in
    the shape.
    """
    gpt2 = shape.get("model_type") == "gpt2"
    names = (
        ("n_embd", "n_layer")
        if gpt2
        else ("hidden_size", "num_hidden_layers", "max_position_embeddings", "intermediate_size")
    )
    if not all(shape.get(name) for name in (*names, "vocab_size")):
        return None
    width, layers, vocabulary = int(shape[names[0]]), int(shape[names[1]]), int(shape["vocab_size"])
    positions, inner = (
        (2048, 4 * width) if gpt2 else (int(shape["max_position_embeddings"]), int(shape["intermediate_size"]))
    )
    fixed = 2 * vocabulary * width + width * positions + 8 * width * layers + 2 * width
    return 2 * (fixed + 4 * layers * width * width + 2 * layers * width * inner)


def _known(shape: Shape, names: tuple[str, ...]) -> int:
    return _first(shape, names, 0)


def _first(shape: Shape, names: tuple[str, ...], default: int) -> int:
    """The first of these that is stated; as gpu_poor does it, a stated null is the default too."""
    for name in names:
        if name in shape:
            return int(shape[name]) if shape[name] is not None else default
    return default
