"""An adapter on its way out: put together, looked at, packed, merged with its base, sent to the Hub. What is kept of it
goes after a day.

Composes engine, hub and job store for the page and the command line. Knows nothing of gradio. A token passes through
and is kept nowhere."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Required, TypedDict, Unpack

from .. import engine
from ..core.cancellation import DownloadStopped, OnProgress, ShouldStop, never, silent
from ..core.config import RunConfig
from ..core.errors import AdapterError, DataError, DemoError, HubError, RunError, SettingsError, is_disk_full
from ..core.names import SAMPLE
from ..core.requests import MergeRequest
from ..core.run_report import RunReport
from ..host.host import Host
from ..jobs import queue
from ..storage.packs import Merging, Pack, Publication, Published, PublishedFile, finish, new_place

COMPARED_ROWS = 200  # test reviews on which a merged model is held against its adapter


class Sending(TypedDict, total=False):
    """How a publication is sent, as hub.publish.publish takes it."""

    token: Required[str | None]
    private: bool
    revision: str
    replace: bool
    on_progress: OnProgress
    should_stop: ShouldStop


@dataclass(frozen=True)
class Export:
    """What was written where; `merging`: how far a merged model is from its adapter else None."""

    path: Path
    files: tuple[PublishedFile, ...]
    merging: Merging | None


class PublishService:
    """The adapters of one host on their way out. All functions raise DemoErrors."""

    def __init__(self, host: Host):
        self._host = host

    def check_takeable(self, adapter: str, key: str) -> str:
        """The adapter, where who has this key may take it away: a run's pinned reviews go with it. Raises RunError."""
        if adapter != SAMPLE and not self._host.may_see(adapter, key):
            raise RunError(
                f"The adapter of {adapter[:60]} belongs to who started that run; train one of your own, or take the"
                " sample's."
            )
        return adapter

    def hub_user(self) -> str | None:
        """Who is logged in to the Hub on this machine; asks the Hub, for a few seconds at most."""
        engine.load()
        from ..engine.models.hubfiles import hub_user

        return hub_user()

    def hub_token(self) -> str | None:
        """The token of `hf auth login` or HF_TOKEN: this machine's, and so never for strangers."""
        from huggingface_hub import get_token

        return get_token()

    def prepare(self, adapter: str, *, repo: str = "", licence: str = "") -> Publication:
        """What would be published of an adapter (as find_adapter names it), in a folder of its own."""
        publication = self._prepare(adapter, repo=repo, licence=licence)
        finish(publication.folder.parent)
        return publication

    @contextmanager
    def prepared(self, adapter: str, *, repo: str, licence: str = "") -> Iterator[Publication]:
        """As `prepare`, for a while: the folder is removed at the end."""
        from ..hub.refusals import check_name

        check_name(repo)  # before anything is loaded
        publication = self._prepare(adapter, repo=repo, licence=licence)
        try:
            yield publication
        finally:
            shutil.rmtree(publication.folder.parent, ignore_errors=True)

    def publish(self, adapter: str, repo: str, *, licence: str = "", **how: Unpack[Sending]) -> Published:
        """Sends an adapter to the Hub, as `send`."""
        how.get("on_progress", silent)("putting the files together", None)
        with self._host.turn("publish"), self.prepared(adapter, repo=repo, licence=licence) as publication:
            return self.send(publication, repo, **how)

    def send(self, publication: Publication, repo: str, **how: Unpack[Sending]) -> Published:
        """Sends what was prepared to the Hub (hub.publish); once stopped, HubError."""
        from ..hub.publish import publish

        try:
            return publish(publication.folder, repo, **how)
        except DownloadStopped as stopped:
            raise HubError(str(stopped)) from None

    def pack(self, adapter: str, *, licence: str = "") -> Pack:
        """What would be published, as a zip."""
        from ..hub.publication import zip_publication

        with self._host.turn("pack"):
            publication = self._prepare(adapter, licence=licence)
            place, name = publication.folder.parent, f"{_file_name(adapter)}.zip"
            try:
                size = zip_publication(publication, place / "draft").rename(place / name).stat().st_size
            except OSError as error:
                raise _of_disk(error) from error
            finally:
                shutil.rmtree(publication.folder, ignore_errors=True)
            finish(place)
            return Pack(place=place.name, name=name, size_bytes=size)

    def merge(
        self, adapter: str, visitor: str = "", *, on_progress: OnProgress = silent, should_stop: ShouldStop = never
    ) -> Pack:
        """The merged FP16 model as a zip, made by a job, which gives its memory back; stopped, HubError."""
        request = MergeRequest(adapter=str(self._adapter(adapter)), name=f"{_file_name(adapter)}-merged.zip")
        store, stopping = self._host.store, False
        with self._host.turn("merge"):
            job = store.job(self._host.submit("merge", request.to_dict(), visitor, beside=True).run)
            try:
                for events in queue.follow(store, job):
                    for event in events:
                        if event["event"] == "phase":
                            on_progress(event["detail"], event["progress"])
                    if should_stop() and not stopping:
                        stopping = True
                        queue.stop(store, job.id)
                state, pack = job.state(), job.report(Pack)
            finally:
                with suppress(RunError):  # where it has not ended, it is left to the daily sweep
                    queue.delete(store, job.id)
        if state.state == "stopped":
            raise HubError("Merging was stopped; nothing was kept.")
        if pack is None:
            raise AdapterError(state.error or "Merging failed without a word; try again.")
        return pack

    def export(
        self, adapter: str, output: Path, *, merged: bool = False, licence: str = "", on_progress: OnProgress = silent
    ) -> Export:
        """Writes what would be published, or the merged FP16 model, to a folder, or to a zip where the name says so."""
        from ..hub.metadata import check_licence
        from ..hub.publication import prepare, zip_publication

        check_licence(licence)
        source = self._adapter(adapter)
        if output.exists():
            raise SettingsError({"output": f"{output} exists already; give another name, or remove it."})
        if not output.parent.is_dir():
            raise SettingsError({"output": f"There is no folder {output.parent}; make it first, or give another path."})
        with tempfile.TemporaryDirectory(prefix=".export-", dir=output.parent) as place:
            folder, merging = Path(place) / "model", None
            if merged:
                merging = _merge(source, folder, licence, on_progress)
                files = tuple(PublishedFile(path.name, path.stat().st_size, "") for path in sorted(folder.iterdir()))
                publication = Publication(folder, files, (folder / "README.md").read_text(encoding="utf-8"))
            else:
                publication = prepare(source, run_of(source), folder, licence=licence)
            if output.suffix == ".zip":
                on_progress("packing", None)
                zip_publication(publication, Path(place) / "packed.zip").rename(output)
            else:
                shutil.move(folder, output)
        return Export(output, publication.files, merging)

    def script(self, run: str) -> str:
        """The Python script that repeats a run with the libraries alone. RunError where the run has no adapter yet."""
        from ..hub.publication import write_run_script

        job = self._host.store.job(run)
        if job.state().kind != "train":
            raise RunError(f"The run {job.id} trained nothing; name one that did (`python -m qlora_demo runs`).")
        report = job.report(RunReport)
        if report is None or not (job.folder / "adapter").is_dir():
            raise RunError(f"The run {job.id} has no adapter; ask again when it has finished.")
        return write_run_script(report, job.folder / "adapter")

    def write_reviews(self, run: str, path: Path) -> int:
        """Writes a run's cleaned reviews as its script reads them: JSON Lines with split, text and label (an index).

        Training reviews come in the order of the training. Returns their number. Raises DataError where the source no
        longer has the reviews that the run was trained on, SettingsError where the file cannot be written."""
        engine.load()
        from ..engine.train.reviews import load_data

        job = self._host.store.job(run)
        data = load_data(RunConfig.read(job.settings()), lambda event: None, never)
        report = job.report(RunReport)
        if report is not None and report.data.sha256 not in ("", data.describe().sha256):
            raise DataError(f"The reviews have changed since {run} was trained on them; restore them, and try again.")
        try:
            with path.open("w", encoding="utf-8") as lines:
                for split, reviews in data.splits.items():
                    for text, label in zip(reviews.texts, reviews.labels, strict=True):
                        row = {"split": split, "text": text, "label": label}
                        lines.write(json.dumps(row, ensure_ascii=False) + "\n")
        except OSError as error:
            raise SettingsError(
                {"reviews": f"{path} cannot be written ({error.strerror}); give another path."}
            ) from None
        return sum(map(len, data.splits.values()))

    def _adapter(self, adapter: str) -> Path:
        engine.load()
        from ..engine.models.adapters import find_adapter

        return find_adapter(adapter.strip(), self._host.home)

    def _prepare(self, adapter: str, *, repo: str = "", licence: str = "") -> Publication:
        """As `prepare`; the place is still in the making."""
        from ..hub.publication import prepare

        source = self._adapter(adapter)
        try:
            place = new_place(self._host.home, self._host.pack_limit)
        except OSError as error:
            raise _of_disk(error) from error
        return prepare(source, run_of(source), place / "model", repo=repo, licence=licence)


def run_of(adapter: Path) -> Path | None:
    """The folder of the run that the adapter in a folder belongs to; None where it belongs to none."""
    return adapter.parent if adapter.name == "adapter" and (adapter.parent / "config.json").is_file() else None


def _file_name(adapter: str) -> str:
    return re.sub(r"[^\w.-]", "_", adapter.strip().rstrip("/").rpartition("/")[2])[-60:].strip(".") or "adapter"


def _of_disk(error: OSError) -> DemoError:
    why = "the disk is full; free some space" if is_disk_full(error) else f"{error.strerror or 'input or output error'}"
    return HubError(f"The files could not be put together: {why}, and try again.")


def _merge(adapter: Path, folder: Path, licence: str, on_progress: OnProgress) -> Merging:
    from ..engine.classify.merging import comparison_texts, merge
    from ..hub.merged_card import write_merged_card

    result = merge(adapter, folder, comparison_texts(run_of(adapter), COMPARED_ROWS), on_progress)
    note = json.loads((adapter / "qlora_demo.json").read_text(encoding="utf-8"))
    (folder / "README.md").write_text(write_merged_card(result, note, licence=licence), encoding="utf-8")
    return result
