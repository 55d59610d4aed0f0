"""Files that a browser has sent: names that harm nothing, folders that nobody can guess, and what is deleted when."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from qlora_demo.core.errors import DataError
from qlora_demo.jobs.store import Store
from qlora_demo.storage import uploads


def sent(tmp_path: Path, name: str = "reviews.csv", content: bytes = b"text\ngood\n") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def test_an_upload_is_a_copy_under_its_own_name_in_a_folder_nobody_can_guess(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first, second = (uploads.keep(sent(tmp_path), home) for _ in range(2))
    assert first.name == second.name == "reviews.csv" and first.parent != second.parent and len(first.parent.name) == 32
    assert first.read_bytes() == b"text\ngood\n" and first.parent.parent == home / ".cache" / "uploads"
    assert uploads.is_upload(first, home) and uploads.is_upload(str(first), home)
    assert not uploads.is_upload(sent(tmp_path), home) and not uploads.is_upload(first.parent, home)
    assert not uploads.is_upload(first.parent / ".." / ".." / ".." / "runs", home)
    (first.parent / "link.csv").symlink_to(sent(tmp_path, "secret.csv"))
    assert not uploads.is_upload(first.parent / "link.csv", home)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("reviews.csv", "reviews.csv"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\my reviews.csv", "my reviews.csv"),
        ("<img src=x>.csv", "_img src=x_.csv".replace("=", "_")),
        ("a;rm -rf $HOME.tsv", "a_rm -rf _HOME.tsv"),
        ("..", "file"),
        ("", "file"),
        (".hidden", "hidden"),
        ("отзывы 2024.jsonl", "отзывы 2024.jsonl"),
        ("a\nb\0c.csv", "a_b_c.csv"),
        ("\u202egpj.csv", "_gpj.csv"),
    ],
)
def test_names_lose_what_could_be_taken_for_something_else(name: str, safe: str) -> None:
    assert uploads.safe_name(name) == safe


def test_a_long_name_keeps_its_ending() -> None:
    assert uploads.safe_name("x" * 300 + ".csv.gz").endswith("x.csv.gz")
    assert len(uploads.safe_name("x" * 300 + ".csv.gz")) == 100


def test_too_large_a_file_and_one_that_is_gone_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_UPLOAD_BYTES", 2 * 1024**2)
    with pytest.raises(DataError, match="has 3 MiB; give one of at most 2 MiB"):
        uploads.keep(sent(tmp_path, content=bytes(3 * 1024**2)), tmp_path / "home")
    with pytest.raises(DataError, match="could not be kept"):
        uploads.keep(tmp_path / "gone.csv", tmp_path / "home")
    assert not list((tmp_path / "home").rglob("*.csv"))


def test_after_a_day_an_upload_goes_but_for_a_run_that_may_still_need_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    store = Store(home)
    unused, wanted, used, young = (uploads.keep(sent(tmp_path), home) for _ in range(4))
    store.create("train", {"data": str(wanted)})
    done = store.create("train", {"data": str(used)})
    done.finish(done.state(), "done")
    day_ago = time.time() - uploads.KEPT_SECONDS - 1
    for path in (unused, wanted, used):
        os.utime(path.parent, (day_ago, day_ago))
    assert uploads.sweep(home) == 2
    assert [path.exists() for path in (unused, wanted, used, young)] == [False, True, False, True]
    assert uploads.sweep(home, now=time.time() + uploads.KEPT_SECONDS + 60) == 1 and wanted.exists()
    assert uploads.sweep(tmp_path / "nowhere") == 0


def test_an_upload_is_dropped_at_once_unless_a_run_needs_it_and_nothing_else_is(tmp_path: Path) -> None:
    home = tmp_path / "home"
    needed, kept = (uploads.keep(sent(tmp_path), home) for _ in range(2))
    others = sent(tmp_path, "mine.csv")
    Store(home).create("train", {"data": str(needed)})
    for path in (needed, kept, others, home / "gone.csv"):
        uploads.drop(path, home)
    assert needed.exists() and others.exists() and not kept.parent.exists()
