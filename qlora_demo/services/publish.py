"""An adapter on its way out: put together, looked at, packed, merged with its base, sent to the Hub. What is kept of it
goes after a day.

Composes engine, hub and job store for the page and the command line. Knows nothing of gradio. A token passes through
and is kept nowhere."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import engine
from ..core.cancellation import DownloadStopped, OnProgress, ShouldStop, never, unheard
from ..core.errors import AdapterError, DemoError, HubError, RunError, is_disk_full
from ..host.environment import ROOT
from ..storage.packs import Pack, Publication, Published, new_place
from .classify import SAMPLE

COMPARED_ROWS = 200  # test reviews on which a merged model is held against its adapter


class Publisher:
    """Publications of one app's adapters, which lie in `home`. `owns(run, key)`: whether who has this key may take away
    a run's adapter.

    All functions raise DemoErrors.
    """

    def __init__(self, home: Path, owns: Callable[[str, str], bool]):
        self._home, self._owns = home, owns

    def check_takeable(self, adapter: str, key: str) -> str:
        """The adapter, where who has this key may take it away: a run's pinned reviews go with it. Raises RunError."""
        if adapter != SAMPLE and not self._owns(adapter, key):
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
        from ..hub.publication import prepare

        found = self._adapter(adapter)
        return prepare(found, run_of(found), self._new_place() / "model", repo=repo, licence=licence)

    def publish(
        self,
        adapter: str,
        repo: str,
        *,
        token: str | None,
        licence: str = "",
        private: bool = False,
        replace: bool = False,
        on_progress: OnProgress = unheard,
        should_stop: ShouldStop = never,
    ) -> Published:
        """Sends it to the Hub (hub.publish); once stopped, HubError."""
        from ..hub.publish import publish
        from ..hub.refusals import check_name

        check_name(repo)
        on_progress("putting the files together", None)
        made = self.prepare(adapter, repo=repo, licence=licence)
        try:
            return publish(
                made.folder,
                repo,
                token=token,
                private=private,
                replace=replace,
                on_progress=on_progress,
                should_stop=should_stop,
            )
        except DownloadStopped as stopped:
            raise HubError(str(stopped)) from None
        finally:
            shutil.rmtree(made.folder.parent, ignore_errors=True)

    def pack(self, adapter: str, *, licence: str = "") -> Pack:
        """What would be published, as a zip."""
        from ..hub.publication import zip_publication

        made = self.prepare(adapter, licence=licence)
        try:
            return self._told(zip_publication(made, made.folder.parent / f"{_file_name(adapter)}.zip"))
        except OSError as error:
            raise _of_disk(error) from error
        finally:
            shutil.rmtree(made.folder, ignore_errors=True)

    def merge(self, adapter: str, *, on_progress: OnProgress = unheard, should_stop: ShouldStop = never) -> Pack:
        """The merged FP16 model as a zip. A process of its own makes it, and gives the memory back; stopped,
        HubError.
        """
        found, place = self._adapter(adapter), self._new_place()
        path = place / f"{_file_name(adapter)}-merged.zip"
        command = [
            sys.executable,
            "-m",
            "qlora_demo",
            "export",
            str(found),
            "--merged",
            "--output",
            str(path),
            "--json",
        ]
        with (place / "log").open("w+") as log:
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
            try:
                while process.poll() is None:
                    lines = (place / "log").read_text().splitlines()
                    on_progress(lines[-1] if lines else "starting", None)
                    if should_stop():
                        raise HubError("Merging was stopped; nothing was kept.")
                    time.sleep(0.3)
                if process.returncode:
                    lines = (place / "log").read_text().splitlines()
                    raise AdapterError(lines[-1] if lines else "Merging failed without a word; try again.")
                assert process.stdout is not None
                return self._told(path, json.loads(process.stdout.read())["merging"])
            finally:
                process.kill()
                process.wait()
                if process.returncode:
                    shutil.rmtree(place, ignore_errors=True)

    def _adapter(self, adapter: str) -> Path:
        engine.load()
        from ..engine.models.adapters import find_adapter

        return find_adapter(adapter.strip(), self._home)

    def _new_place(self) -> Path:
        try:
            return new_place(self._home)
        except OSError as error:
            raise _of_disk(error) from error

    def _told(self, path: Path, merging: dict[str, Any] | None = None) -> Pack:
        return Pack(path.parent.name, path.name, path.stat().st_size, merging)


def run_of(adapter: Path) -> Path | None:
    """The folder of the run that the adapter in a folder belongs to; None where it belongs to none."""
    return adapter.parent if adapter.name == "adapter" and (adapter.parent / "config.json").is_file() else None


def _file_name(adapter: str) -> str:
    return re.sub(r"[^\w.-]", "_", adapter.strip().rstrip("/").rpartition("/")[2])[-60:].strip(".") or "adapter"


def _of_disk(error: OSError) -> DemoError:
    why = "the disk is full; free some space" if is_disk_full(error) else f"{error.strerror or 'input or output error'}"
    return HubError(f"The files could not be put together: {why}, and try again.")
