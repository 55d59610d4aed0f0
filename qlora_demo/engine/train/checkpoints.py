"""The Trainer's checkpoints of a run: which one is whole, and what its state tells."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import TrainerState

CHECKPOINT_FILES = ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")


def last_checkpoint(folder: Path, below: float = math.inf) -> Path | None:
    """The newest whole checkpoint of the run in `folder`, before step `below`; what a killed process left half-written
    is passed over.
    """
    found = (checkpoint for checkpoint in _checkpoints(folder) if step_of(checkpoint) < below)
    return max(filter(_is_whole, found), key=step_of, default=None)


def drop_half_written(folder: Path) -> None:
    """Removes what is no whole checkpoint: the Trainer, which keeps two, would count it and remove a whole one for
    it.
    """
    for checkpoint in _checkpoints(folder):
        if not _is_whole(checkpoint):
            shutil.rmtree(checkpoint)


def _checkpoints(folder: Path) -> list[Path]:
    return list((folder / "checkpoints").glob("checkpoint-*"))


def _is_whole(checkpoint: Path) -> bool:
    # The Trainer writes its state last (Trainer._save_checkpoint), so who has it has all.
    return _is_json(checkpoint / "trainer_state.json") and all(
        (checkpoint / name).is_file() for name in CHECKPOINT_FILES
    )


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def best_step(state: TrainerState) -> int | None:
    return step_of(Path(state.best_model_checkpoint)) if state.best_model_checkpoint else None


def last_loss(state: TrainerState) -> float | None:
    """The loss of the last logged step, in nats; None before the first."""
    return next((entry["loss"] for entry in reversed(state.log_history) if "loss" in entry), None)


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_text())
    except (OSError, ValueError):
        return False
    return True
