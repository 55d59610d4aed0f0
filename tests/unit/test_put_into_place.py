"""A run's results are put into place by renaming: who is killed at any point in it loses neither the old adapter nor
the new one, and adapter, answers and report belong together."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from qlora_demo.engine.train.run import put_into_place
from qlora_demo.jobs.state import read_state, this_host, write_state
from qlora_demo.jobs.store import Job, Store


class Killed(BaseException):
    """Nothing after it is done."""


def results(job: Job) -> set[str]:
    """What the adapter, the answers and the report say of themselves."""
    return {(job.folder / name).read_text() for name in ("adapter/weights", "answers.jsonl", "report.json")}


def write(job: Job, content: str, end: str = "") -> None:
    (job.folder / f"adapter{end}").mkdir()
    for name in (f"adapter{end}/weights", f"answers.jsonl{end}", f"report.json{end}"):
        (job.folder / name).write_text(content)


def dead_job(home: Path) -> Job:
    """A job whose worker was killed."""
    job = Store(home).create("train", {})
    state = read_state(job.folder)
    assert state is not None
    write_state(job.folder, replace(state, state="running", pid=2**22 + 1, host=this_host(), started=state.created))
    return job


@pytest.mark.parametrize("resumed", [True, False])
@pytest.mark.parametrize("kill_at", range(6))
def test_a_kill_loses_no_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int, resumed: bool) -> None:
    job, calls = dead_job(tmp_path), []
    if resumed:
        write(job, "old")
    write(job, "new", ".draft")

    def killing(function):
        def call(*arguments, **options):
            if len(calls) == kill_at:
                raise Killed
            calls.append(arguments)
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", killing(Path.rename))
        patched.setattr(shutil, "rmtree", killing(shutil.rmtree))
        with suppress(Killed):
            put_into_place(job.folder)
    assert job.settle().state == "interrupted"
    if kill_at == 0 and not resumed:
        assert not (job.folder / "adapter").exists(), "nothing was in place yet"
    else:
        assert results(job) == ({"old"} if kill_at == 0 else {"new"})
    assert not list(job.folder.glob("*.draft")) and not list(job.folder.glob("*.old"))


def test_drafts_that_were_not_finished_are_dropped(tmp_path: Path) -> None:
    job = dead_job(tmp_path)
    write(job, "old")
    (job.folder / "adapter.draft").mkdir()
    (job.folder / "report.json.draft").write_text("ne")
    job.settle()
    assert results(job) == {"old"} and not list(job.folder.glob("*.draft"))
