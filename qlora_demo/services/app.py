"""The one front door: page, HTTP interface, MCP and command line ask these services, one for each column.

A service takes a request record, and who asks; it takes its turn at the host, and calls the engine or submits a job.
The engine (and with it torch) is imported by those that need it, first of all by a warm-up thread once the page is up.
Knows nothing of gradio."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from ..core.config import RunConfig
from ..core.records import Download
from ..core.requests import MemoryRequest
from ..host.host import Host
from ..jobs import queue
from ..jobs.launch import start_worker
from ..jobs.store import Store
from .classify import ClassifyService
from .data import DataService
from .downloads import needed_downloads
from .files import FileService
from .learn import LearnService
from .loaded import Adapters
from .machine import MachineService
from .memory import MemoryService
from .publish import PublishService
from .train import TrainService

log = logging.getLogger("qlora_demo")


class Services:
    """The services of one host. `beside_jobs`: reviews are classified beside jobs, on the CPU, as the page needs it."""

    def __init__(
        self, store: Store, *, public: bool = False, launch: queue.Launch = start_worker, beside_jobs: bool = True
    ):
        self.store = store
        self.host = Host(store, public=public, launch=launch)
        self.machine = MachineService(self.host)
        self.memory = MemoryService(self.host, self.machine)
        self.data = DataService(self.host)
        self.train = TrainService(self.host)
        self.classify = ClassifyService(self.host, Adapters(self.host, beside_jobs=beside_jobs))
        self.files = FileService(self.host, self.machine)
        self.publish = PublishService(self.host)
        self.learn = LearnService(self.host)

    @classmethod
    def at(cls, home: Path) -> Services:
        """Those of the command line: at home, and on the device."""
        return cls(Store(home), beside_jobs=False)

    def warm_up(self) -> None:
        """Finds out about the machine and loads the shipped adapter, in a thread: the page does not wait for it."""
        threading.Thread(target=self._warm_up, name="warm-up", daemon=True).start()

    def needed_downloads(self, request: MemoryRequest | RunConfig) -> list[Download]:
        """What the Hub would have to send before the job can begin: model, reviews. Raises DemoErrors."""
        return needed_downloads(self.host, request)

    def _warm_up(self) -> None:
        try:
            self.machine.get()
            self.classify.classify_both("Works well.")
        except Exception:
            log.exception("The warm-up failed; whoever asks next hears why")
