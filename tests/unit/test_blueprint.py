"""One description of a model: built once however many ask and whatever for, and one build at a time in the process."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertForSequenceClassification, GPT2Config, PreTrainedModel

from qlora_demo.core.errors import ModelError
from qlora_demo.core.requests import MemoryRequest
from qlora_demo.engine.memory import ledger
from qlora_demo.engine.models import build, sources
from qlora_demo.engine.models.blueprint import read_blueprint
from qlora_demo.services import memory
from tests.families import make_family

TINY = GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=32)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[tuple[type, bool]]:
    """Every model that transformers constructs meanwhile: its class, and whether another one was under construction."""
    made: list[tuple[type, bool]] = []
    busy = threading.Semaphore(1)
    load = PreTrainedModel.from_pretrained.__func__  # type: ignore[attr-defined]

    def watched(kind: type, *args: Any, **kwargs: Any) -> Any:
        alone = busy.acquire(blocking=False)
        made.append((kind, not alone))
        try:
            return load(kind, *args, **kwargs)
        finally:
            if alone:
                busy.release()

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(watched))
    return made


def test_a_first_visit_to_memory_builds_a_model_once(
    builds: list[tuple[type, bool]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_family("bert", tmp_path / "base")
    request = MemoryRequest(model=str(folder), batch_size=2, length=8)
    report = memory.report_memory(request, lambda event: None, lambda: False, ("predicted",))
    step = memory.predict_step(request)
    assert len(report.stages) == 6 and report.architecture.rows and step.predicted and report.step == step
    assert builds == [(BertForSequenceClassification, False)]


def test_many_threads_share_one_build(builds: list[tuple[type, bool]], tmp_path: Path) -> None:
    folders = [make_family("bert", tmp_path / name, seed=seed) for seed, name in enumerate("ab")]
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(read_blueprint, sources.resolve(str(folder)), 5) for folder in folders * 3]
        asked += [pool.submit(read_blueprint, TINY, labels) for labels in (2, 3)]
    assert len({id(future.result()) for future in asked}) == 4
    assert len(builds) == 4 and not any(beside for _, beside in builds)


def test_what_is_changed_is_a_copy() -> None:
    blueprint = read_blueprint(TINY, 5)
    before = [(name, value.dtype, value.requires_grad) for name, value in blueprint.model.named_parameters()]
    ledger.predict(blueprint)
    assert [(name, value.dtype, value.requires_grad) for name, value in blueprint.model.named_parameters()] == before
    assert {value.dtype for value in blueprint.copy_model(torch.bfloat16).parameters()} == {torch.bfloat16}


def test_new_files_are_another_model(tmp_path: Path) -> None:
    folder = make_family("gpt2", tmp_path / "base")
    first = read_blueprint(sources.resolve(str(folder)), 5)
    assert read_blueprint(sources.resolve(str(folder)), 5) is first
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    assert read_blueprint(sources.resolve(str(folder)), 5) is not first


def test_a_refusal_is_no_blueprint_and_locks_nothing() -> None:
    for _ in range(2):
        with pytest.raises(ModelError, match="does not build a classifier"):
            read_blueprint(GPT2Config(vocab_size=50, n_embd=15, n_layer=2, n_head=2), 5)
    assert read_blueprint(TINY, 5).parameters > 0


def test_no_model_is_built_while_someone_computes_by_torchs_defaults() -> None:
    """Any number may compute at once; who builds waits for them, and goes before those that come later."""
    order: list[str] = []
    inside, leave = threading.Barrier(3), threading.Event()

    def compute() -> None:
        with build.undisturbed():
            inside.wait(5)
            leave.wait(5)
            order.append("computed")

    def construct() -> None:
        with build._builds.alone():
            order.append("built")

    def compute_later() -> None:
        with build.undisturbed():
            order.append("computed later")

    threads = [threading.Thread(target=work) for work in (compute, compute, construct, compute_later)]
    for thread in threads[:2]:
        thread.start()
    inside.wait(5)
    threads[2].start()
    while not build._builds._waiting:
        time.sleep(0.01)
    threads[3].start()
    leave.set()
    for thread in threads:
        thread.join(5)
    assert order == ["computed", "computed", "built", "computed later"]
