"""Loaded classifiers, each with a queue before it that answers many reviews at once; the least recently used one goes.

The engine (and with it torch) is imported by the functions that need it."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import engine
from ..core.errors import AdapterError, DeviceError, RunError, SettingsError
from ..core.names import PRECISIONS, SAMPLE
from ..core.records import Prediction
from ..host.host import Host
from .batching import Batcher
from .downloads import check_model

if TYPE_CHECKING:
    from ..engine.classify.classifier import Classifier, Scores

KEPT, TAUGHT_KEPT = 3, 4
TYPED_LIMIT_PARAMETERS = 1_500_000_000  # above, a typed review takes seconds on a CPU
ANSWER_SECONDS = 30.0  # a typed review that waited longer is nobody's any more
TAUGHT = "taught-"


@dataclass(frozen=True)
class Question:
    """One review to be scored; `base` and `scale` as in Classifier.score."""

    text: str
    base: bool = False
    scale: float = 1.0


class Loaded:
    """A loaded classifier and the queue before it."""

    def __init__(self, classifier: Classifier, answer_seconds: float = ANSWER_SECONDS):
        self.classifier, self._answer_seconds = classifier, answer_seconds
        self._batcher: Batcher[Question, Scores] = Batcher(self._score)

    def ask(self, questions: Sequence[Question], calibrated: bool = False) -> list[Prediction]:
        """Their predictions, in order; questions of all threads go together. Raises DemoErrors."""
        from ..engine.classify.classifier import check_scale, check_texts

        for question in questions:
            check_texts([question.text])
            check_scale(question.scale)
        answers = self._batcher.ask(questions, self._answer_seconds)
        return [
            self.classifier.predict(question.text, scores, question.base, calibrated)
            for question, scores in zip(questions, answers, strict=True)
        ]

    def _score(self, questions: list[Question]) -> list[Scores]:
        answers: dict[Question, Scores] = {}
        for base, scale in dict.fromkeys((question.base, question.scale) for question in questions):
            alike = [question for question in questions if (question.base, question.scale) == (base, scale)]
            scores = self.classifier.score([question.text for question in alike], base, scale)
            answers.update(zip(alike, scores, strict=True))
        return [answers[question] for question in questions]


class Adapters:
    """The classifiers of one host by adapter and precision, loaded at their first use, from any thread.

    Adapters are named as in `find_adapter`, precisions as in names.PRECISIONS. `beside_jobs`: they stay on the CPU,
    which jobs leave alone, as weights that were restored once; else on the device, as they are. All functions raise
    DemoErrors."""

    def __init__(self, host: Host, *, beside_jobs: bool = True):
        self._host, self._beside_jobs = host, beside_jobs
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()
        self._taught: OrderedDict[str, Loaded] = OrderedDict()
        self._lock, self._loading = threading.Lock(), threading.Lock()

    def get(self, adapter: str, precision: str = "") -> Loaded:
        """The adapter, loaded and ready to be asked."""
        if not (isinstance(adapter, str) and isinstance(precision, str)):  # both come from anyone's browser
            raise AdapterError("The adapter and its precision are no names; choose them from their lists.")
        adapter, precision = adapter.strip(), precision.strip()
        if precision not in PRECISIONS:
            known = ", ".join(filter(None, PRECISIONS))
            raise SettingsError({"precision": f"There is no precision {precision[:20]!r}; give {known}."})
        if adapter.startswith(TAUGHT):
            return self._get_taught(adapter, precision)
        version = f"{self._version(adapter)} {precision}"
        if (loaded := self._cached(version)) is not None:
            return loaded
        folder = self.find(adapter)  # before the lock: it may fetch from the Hub
        with self._loading:
            # Who waited here may find that another has loaded it.
            if (loaded := self._cached(version)) is None:
                loaded = self._answering(self.load(folder, adapter, precision))
                _keep(self._loaded, version, loaded, KEPT, self._lock)
            return loaded

    def load(self, folder: Path, adapter: str, precision: str = "") -> Classifier:
        """A classifier of its own, kept nowhere."""
        from ..engine.classify.classifier import Classifier
        from ..engine.models import adapters

        parameters = adapters.read_parameters(folder)
        if self._beside_jobs and parameters is not None and parameters > TYPED_LIMIT_PARAMETERS:
            raise DeviceError(
                f"The base has {parameters / 1e9:.1f} billion parameters, too many to answer as you type; "
                f"use `python -m qlora_demo classify --adapter {adapter} TEXT`."
            )
        beside = self._beside_jobs
        return Classifier(str(folder), on_cpu=beside, precision=precision, restored=beside)

    def find(self, adapter: str) -> Path:
        """The adapter's folder, its base at hand. On a public host those of the list, and of the Hub such as rest on a
        base that visitors may use."""
        engine.load()
        from ..engine.models import adapters, hubadapters, modeling, sources

        offered = not self._host.public or adapter in self._host.adapter_names()
        if not offered and not hubadapters.is_hub_name(adapter):
            raise RunError(
                f"There is no adapter {adapter[:60]!r} here; choose one of the list, or give its name on the Hub."
            )
        # A name on the Hub may be that of a folder here, too, which is not for visitors.
        folder = adapters.find_adapter(adapter, self._host.home) if offered else hubadapters.fetch_adapter(adapter)
        note = modeling.read_note(folder)
        if note.model != SAMPLE:
            if not offered:
                check_model(self._host, note.base_name, note.revision)
            sources.resolve(note.base_name, note.revision)
        return folder

    def add_taught(self, classifier: Classifier) -> str:
        """Keeps a taught classifier for a while; the name by which it can be asked."""
        name = f"{TAUGHT}{secrets.token_hex(8)}"
        _keep(self._taught, name, self._answering(classifier), TAUGHT_KEPT, self._lock)
        return name

    def forget(self, adapter: str) -> None:
        """Drops an adapter: a taught one for good, another until it is asked for again, and read anew."""
        with self._lock:
            self._taught.pop(adapter, None)
            for version in [version for version in self._loaded if version.split(" ")[0] == adapter]:
                del self._loaded[version]

    def _answering(self, classifier: Classifier) -> Loaded:
        return Loaded(classifier, ANSWER_SECONDS if self._beside_jobs else threading.TIMEOUT_MAX)

    def _get_taught(self, name: str, precision: str) -> Loaded:
        with self._lock:
            loaded = self._taught.get(name)
        if loaded is None:
            raise AdapterError("The taught adapter was dropped when others were taught after it; teach it again.")
        if precision not in ("", loaded.classifier.precision):
            raise AdapterError(f"The taught adapter exists at {loaded.classifier.precision} only; choose that.")
        return loaded

    def _cached(self, version: str) -> Loaded | None:
        with self._lock:
            if version in self._loaded:
                self._loaded.move_to_end(version)
            return self._loaded.get(version)

    def _version(self, adapter: str) -> str:
        """The adapter's name, for a run with the time it was written: a resumed run writes another one under it."""
        try:
            return f"{adapter} {(self._host.home / adapter / 'adapter' / 'report.json').stat().st_mtime_ns}"
        except (OSError, ValueError):
            return adapter


def _keep(kept: OrderedDict[str, Loaded], name: str, loaded: Loaded, most: int, lock: threading.Lock) -> None:
    with lock:
        kept[name] = loaded
        while len(kept) > most:
            kept.popitem(last=False)
