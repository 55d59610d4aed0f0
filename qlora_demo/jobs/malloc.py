"""How the C library manages the memory of a process that trains. It reads its settings once, at a process's start."""

from __future__ import annotations

from collections.abc import Mapping

TUNABLES = "GLIBC_TUNABLES"
# No caches of small freed blocks (names: glibc manual, "Memory Allocation Tunables"). torch aligns a tensor's block to
# 64 bytes, and glibc before 2.38 cannot put such a block into the gap that an equal one left while a cached small
# block sits at the gap's edge (glibc bug 14581). With the caches a step of 32 x 128 tokens took 1.31 times the memory,
# and was no faster (benchmarks/budget.md).
COMPACT = "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0"
# Arrow's own pool reserves a GiB of addresses when it is imported, which counts against a limit on a process
# (engine/train/memory_limit.py).
ARROW_POOL = {"ARROW_DEFAULT_MEMORY_POOL": "system"}


def with_malloc_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """A copy of `environment` for a process that will train; what is set there already is left as it is."""
    return {TUNABLES: COMPACT, **ARROW_POOL, **environment}
