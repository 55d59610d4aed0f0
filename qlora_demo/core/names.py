"""Names that files, pages, the command line and the model card share: each id with its display name, once."""

from __future__ import annotations

from typing import Literal

Precision = Literal["nf4-dq", "nf4", "fp16", "fp32"]  # of the frozen base
Optimizer = Literal["adamw_torch_fused", "adamw_torch", "adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit"]

SAMPLE = "sample"  # the embedded model, its adapter and its reviews

# The stages of QLoRA, in order: id -> (title, what it means).
STAGES = {
    "fp32": ("FP32", "4 bytes per parameter"),
    "fp16": ("FP16", "2 bytes per parameter"),
    "int8": ("Int8", "1 byte per quantized weight, the rest FP16"),
    "nf4": ("NF4", "4 bits per quantized weight, the rest FP16"),
    "nf4-dq": ("NF4 + double quantization", "the constants quantized too"),
    "prepared": ("Prepared for training", "what is not quantized cast to FP32"),
    "lora": ("With LoRA", "adapters and a trainable head added"),
}
# At which precision a typed review can be answered; "" = that of the adapter's training.
PRECISIONS = {"": "as trained", **{name: STAGES[name][0] for name in ("fp32", "fp16", "nf4", "nf4-dq")}}

# As metrics are called in a report: id -> (title, format of its value).
METRICS = {
    "accuracy": ("Accuracy", "%"),
    "macro_f1": ("Macro-F1", ".3f"),
    "mae_stars": ("Mean error (stars)", ".2f"),
    "within_one": ("Within one star", "%"),
    "quadratic_kappa": ("Quadratic kappa", ".3f"),
}

# Classifiers without a network, which a run is compared with.
MAJORITY, TFIDF = "majority", "tfidf-logistic-regression"
BASELINES = {MAJORITY: "Most common label", TFIDF: "Word counts (TF-IDF + logistic regression)"}

# What a step's bytes consist of, in the order in which they are listed.
MEMORY_PARTS = {
    "weights": "weights",
    "constants": "quantization constants",
    "buffers": "buffers",
    "adapter": "adapter and trained head",
    "gradients": "gradients",
    "optimizer": "optimizer",
    "activations": "activations",
    "logits": "logits",
    "workspace": "workspace",
    "overlap": "never present at once",
    "allocator": "allocator",
}

# AdamW by its names in the settings.
OPTIMIZERS = {
    "adamw_torch_fused": "AdamW, 32-bit",
    "adamw_8bit": "AdamW, 8-bit",
    "paged_adamw_32bit": "Paged AdamW, 32-bit",
}
