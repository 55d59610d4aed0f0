"""Every factor by which "does it fit?" is answered with care, each with its reason.

Whoever asks multiplies or divides by one of these; none stands anywhere else.
"""

from __future__ import annotations

from .format import MiB

# A model is not loaded for a measurement without a tenth more free memory than the ledger counts: file buffers, and the
# copy of the largest tensor while it is converted.
LOAD_MARGIN = 1.1
# A training step is not tried without a quarter more free memory than its tensors take: libraries, gaps, the page.
STEP_MARGIN = 1.25
# What takes less than a quarter of the free memory need not wait until the device is free.
BESIDE_SHARE = 4
# What a run may need beyond one predicted step. On a CPU gaps add up over batches of many lengths: with 16 x 128 tokens
# what the process had asked for grew by 1.4 times the predicted step in 40 batches, by 2.0 times in 96. On a GPU:
# fragmentation, a choice, since no source gives a share that holds for all models.
RUN_MARGIN = {"cpu": 2.0, "cuda": 1.15}
# The reload proof loads the base once more: on a GPU with less than twice of what is held free, ours leaves it first.
PROOF_MARGIN = 2
# Merging, per parameter: float32 to add up in, FP16 to save, and FP16 read back.
MERGE_BYTES_PER_PARAMETER = 4 + 2 + 2

# A table of hardware knows no process that could be measured, so these stand for one.
# Python, torch and the other libraries: 518 MiB before any model, 630 once it stands and has run
# (benchmarks/budget.md). The page's own process, which runs beside it on a Space, is not in it.
PROCESS_BYTES = 665 * MiB
# Of what a step adds, the C library holds another third in gaps: 20 to 32 % in benchmarks/budget.md, without
# checkpointing.
HEAP_SHARE = 3
# CUDA's context and kernels: what one tiny tensor took in transformers' guide "Model training anatomy"
# (docs/source/en/model_memory_anatomy.md).
CONTEXT_BYTES = 1343 * MiB
# A tenth of a GPU's tensors for fragmentation and rounding in torch's allocator: a choice, as above.
ALLOCATOR_SHARE = 10
