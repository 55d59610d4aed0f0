"""Kills -9 in the middle of real runs: two, and ten among the slow tests; `make soak` does two hundred."""

from __future__ import annotations

import sys

import pytest

from tests.faults import plan, work_chain

SEED = 7


@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_kills_lose_nothing(kills: int) -> None:
    found = work_chain(plan(SEED, kills), SEED)
    assert len(found.kills) == kills
    assert found.done and found.checks["no event that was written is lost"] >= kills, found.checks
    assert found.violations == []
