"""The hardware that a training step may have to fit: single GPUs, and the tiers that Hugging Face Spaces offers.

Tables only; knows no model. Memory in bytes, by the vendors' decimal GB. Tiers with several GPUs are left out: a run
uses one."""

from __future__ import annotations

from dataclasses import dataclass

GB = 10**9
# What the vendors call their memory, in decimal GB; the driver shows a little more on all but the T4 (14.6 GiB), which
# the reserve of fitting.needed_bytes covers.
GPUS = {
    "T4": 16 * GB,
    "L4": 24 * GB,
    "A10G": 24 * GB,
    "A100 40 GB": 40 * GB,
    "A100 80 GB": 80 * GB,
    "H100": 80 * GB,
    "H200": 141 * GB,
}


@dataclass(frozen=True)
class Tier:
    """One machine of Spaces. gpu_bytes: None without a GPU; ram_bytes, hour_dollars: None where the documentation does
    not say.
    """

    name: str
    gpu_bytes: int | None
    ram_bytes: int | None
    hour_dollars: float | None


# Flavours: huggingface_hub 2.4.0, _space_api.py, SpaceHardware (it lists no H100 and no H200). Memory and price: "Using
# GPU Spaces", huggingface.co/docs/hub/spaces-gpus, a copy stored by November 2026; the A100's price there was 4.00 and
# has since become 2.50. ZeroGPU: huggingface.co/docs/hub/spaces-zerogpu, August 2026: half of an RTX PRO 6000 with 48
# GB, or a whole one with 96, free within the visitor's daily quota. Its main memory, and a Space's price for an RTX PRO
# 6000, no page at hand states; that card has 96 GB.
TIERS = (
    Tier("CPU basic", None, 16 * GB, 0.0),
    Tier("CPU upgrade", None, 32 * GB, 0.03),
    Tier("ZeroGPU large", 48 * GB, None, 0.0),
    Tier("ZeroGPU xlarge", 96 * GB, None, 0.0),
    Tier("T4 small", 16 * GB, 15 * GB, 0.40),
    Tier("T4 medium", 16 * GB, 30 * GB, 0.60),
    Tier("L4", 24 * GB, 30 * GB, 0.80),
    Tier("A10G small", 24 * GB, 15 * GB, 1.00),
    Tier("A10G large", 24 * GB, 46 * GB, 1.50),
    Tier("L40S", 48 * GB, 62 * GB, 1.80),
    Tier("A100 large", 80 * GB, 142 * GB, 2.50),
    Tier("RTX PRO 6000", 96 * GB, None, None),
)
# GPUs that no tier has.
OTHERS = ("A100 40 GB", "H100", "H200")
