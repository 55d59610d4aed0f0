"""Ten kills -9 in the middle of real runs; `make soak` does two hundred."""

from __future__ import annotations

import sys

import pytest

from tests.faults import plan, work_chain

KILLS, SEED = 10, 7


@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
@pytest.mark.timeout(900)
def test_ten_kills_lose_nothing() -> None:
    found = work_chain(plan(SEED, KILLS), SEED)
    assert len(found.kills) == KILLS
    assert found.done and found.checks["no event that was written is lost"] >= KILLS, found.checks
    assert found.violations == []
