"""Typed reviews: loaded classifiers, each with a waiting line that answers many at once, and the reviews that one is
taught.

Composes engine and job store; the engine (and with it torch) is imported by the functions that need it. Knows nothing
of gradio."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import engine
from ..core.errors import AdapterError, DataError, DemoError, DeviceError, RunError, SettingsError
from ..core.names import PRECISIONS, SAMPLE
from ..core.records import Prediction
from ..engine import building
from ..host.limits import EXPLAINED_AT_ONCE, TEACH_STEPS, Turns, check_text
from ..host.redaction import UNNAMED
from ..jobs.store import Job, Store
from ..storage.uploads import was_upload
from .batching import Batcher

if TYPE_CHECKING:
    from ..engine.classify.classifier import Classifier, Scores
    from ..engine.classify.teaching import Taught

CLASSIFIERS_KEPT = 3
TAUGHT_KEPT = 4
TYPED_LIMIT_PARAMETERS = 1_500_000_000  # above, a typed review takes seconds on a CPU
ANSWER_SECONDS = 30.0  # a typed review that waited longer is nobody's any more
MOST_ROWS = 400


@dataclass(frozen=True)
class Question:
    """One review to be scored; `base` and `scale` as in Classifier.score."""

    text: str
    base: bool = False
    scale: float = 1.0


class Line:
    """A loaded classifier and the waiting line before it."""

    def __init__(self, classifier: Classifier):
        self.classifier = classifier
        self._batcher: Batcher[Question, Scores] = Batcher(self._score)

    def ask(self, questions: Sequence[Question], calibrated: bool = False) -> list[Prediction]:
        """Their predictions, in order; questions of all threads go together. Raises DemoErrors."""
        from ..engine.classify.classifier import check_scale, check_texts

        for question in questions:
            check_texts([question.text])
            check_scale(question.scale)
        found = self._batcher.ask(questions, ANSWER_SECONDS)
        return [
            self.classifier.predict(it.text, scores, it.base, calibrated)
            for it, scores in zip(questions, found, strict=True)
        ]

    def _score(self, questions: list[Question]) -> list[Scores]:
        answers: dict[Question, Scores] = {}
        for base, scale in dict.fromkeys((question.base, question.scale) for question in questions):
            alike = [question for question in questions if (question.base, question.scale) == (base, scale)]
            answers.update(
                zip(alike, self.classifier.score([question.text for question in alike], base, scale), strict=True)
            )
        return [answers[question] for question in questions]


class Classifiers:
    """The classifiers of one app, loaded at their first use. Adapters are named as in `find_adapter`, precisions as in
    PRECISIONS, "" being that of the adapter's training.

    `is_public`: strangers use the app.
    `check_base(model, revision)`: raises a DemoError for a base that strangers may not have loaded. All functions may
    be called from any thread, and raise DemoErrors."""

    def __init__(
        self,
        store: Store,
        is_public: Callable[[], bool],
        check_base: Callable[[str, str], None] = lambda model, revision: None,
    ):
        self._store, self._is_public = store, is_public
        self._check_base = check_base
        self._lines: OrderedDict[str, Line] = OrderedDict()
        self._taught: OrderedDict[str, Line] = OrderedDict()
        self._cached = threading.Lock()
        self._teaching = threading.Lock()
        self._turns = Turns(is_public)

    # --- one review --------------------------------------------------------------------------------------------------

    def classify(
        self, text: str, adapter: str = SAMPLE, calibrated: bool = False, *, scale: float = 1.0, precision: str = ""
    ) -> Prediction:
        """One typed review by a tuned network; `calibrated`: see Classifier.classify; `scale`: see Classifier.score."""
        self._check_text(text)
        return self._line(adapter, precision).ask([Question(text, scale=scale)], calibrated)[0]

    def untrained(self, text: str, adapter: str = SAMPLE, *, precision: str = "") -> Prediction:
        """The same review by the same network as it was before training."""
        self._check_text(text)
        return self._line(adapter, precision).ask([Question(text, base=True)])[0]

    def classify_both(
        self, text: str, adapter: str = SAMPLE, calibrated: bool = False, *, scale: float = 1.0, precision: str = ""
    ) -> tuple[Prediction, Prediction]:
        """(tuned, base) of one review, asked together."""
        self._check_text(text)
        tuned, base = self._line(adapter, precision).ask(
            [Question(text, scale=scale), Question(text, base=True)], calibrated
        )
        return tuned, base

    # --- the adapter -------------------------------------------------------------------------------------------------

    def temperature(self, adapter: str) -> float | None:
        """What the adapter's run fitted to divide its logits by; None where it fitted none, or cannot be used here."""
        try:
            return self.classifier(adapter).temperature
        except DemoError:
            return None

    def adapters(self) -> list[tuple[str, str]]:
        """(what to show, name) of the shipped adapter and of every run that has one, newest first."""
        usable = [job for job in self._store.jobs("train") if (job.folder / "adapter").is_dir()]
        return [
            ("Shipped with the app (MiniLM, sample reviews)", SAMPLE),
            *((self._label(job), job.id) for job in usable),
        ]

    def classifier(self, adapter: str = SAMPLE, precision: str = "") -> Classifier:
        """The loaded classifier itself, for what wants more than predictions; it may be slow to come by, and answers
        others meanwhile.
        """
        return self._line(adapter, precision).classifier

    def base_check(self, text: str, adapter: str = SAMPLE, *, precision: str = "") -> float:
        """Largest difference in logits between the base column and the base loaded anew (Classifier.base_check); takes
        a second or more.
        """
        self._check_text(text)
        with self._turns.take("having the base checked"):
            classifier = self.classifier(adapter, precision)
            with building:
                return classifier.base_check(text)

    def compare(
        self,
        precision: str,
        adapter: str = SAMPLE,
        *,
        rows: int = MOST_ROWS,
        on_progress: Callable[[float], None] = lambda done: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, Any]:
        """The adapter at its own precision beside another, on the sample's test reviews: agreement and cost
        (inference.compare).
        """
        with self._turns.take("comparing precisions"):
            trained, other = self.classifier(adapter), self.classifier(adapter, precision)
            from ..engine.classify import classifier as inference
            from ..engine.data import dataset as data

            texts = data.load_rows(SAMPLE).splits["test"].texts[:rows]
            return inference.compare(trained, other, texts, on_progress, should_stop)

    def explain(self, text: str, adapter: str = SAMPLE, *, precision: str = "", scale: float = 1.0) -> dict[str, Any]:
        """Which words the answer rests on, as the `explain` command tells it; takes about a second."""
        self._check_text(text)
        from ..engine.classify import explain

        with self._turns.take("having reviews explained", EXPLAINED_AT_ONCE):
            classifier = self.classifier(adapter, precision)
            with building:  # while a model is built, tensors have another dtype by default
                return explain.explain(classifier, text, scale=scale).to_dict()

    # --- teaching ----------------------------------------------------------------------------------------------------

    def teach(
        self,
        text: str,
        label: str,
        adapter: str = SAMPLE,
        *,
        steps: int = 20,
        on_progress: Callable[[float], None] = lambda done: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> tuple[str, Taught]:
        """A copy of the adapter taught one review, and the name by which it can be asked until it is forgotten."""
        self._check_text(text)
        if self._is_public() and steps > TEACH_STEPS:
            raise SettingsError(
                {"steps": f"On this public page a review is taught in {TEACH_STEPS} steps; {steps:,} are too many."}
            )
        engine.load()
        from ..engine.classify import classifier as inference
        from ..engine.classify import teaching

        inference.check_texts([text])
        right, folder = self.place_of(label, adapter), self._find(adapter.strip())
        if not self._teaching.acquire(blocking=False):
            raise DeviceError("Another review is being taught; wait for its end, some ten seconds.")
        try:
            with building:
                copy = self._load(folder, adapter.strip(), "")
            taught = teaching.teach(copy, text, right, steps=steps, on_progress=on_progress, should_stop=should_stop)
        finally:
            self._teaching.release()
        name = f"taught-{secrets.token_hex(8)}"
        with self._cached:
            self._taught[name] = Line(taught.classifier)
            while len(self._taught) > TAUGHT_KEPT:
                self._taught.popitem(last=False)
        return name, taught

    def place_of(self, label: str, adapter: str = SAMPLE) -> int:
        """The index of one of the adapter's labels. Raises DataError."""
        labels = self.classifier(adapter).labels
        if label not in labels:
            told = f"There is no label {label[:40]!r}" if label else "No label is chosen"
            raise DataError(f"{told}; choose the right one of {', '.join(labels)}.")
        return labels.index(label)

    def forget(self, name: str) -> None:
        """Drops an adapter: a taught one for good, another until it is asked for again, and read anew."""
        with self._cached:
            self._taught.pop(name, None)
            for version in [version for version in self._lines if version.split(" ")[0] == name]:
                del self._lines[version]

    def remark(self, adapter: str = SAMPLE) -> str:
        """What one should know of an adapter that this app has not made, in a sentence; "" of its own, and of one that
        cannot be used.
        """
        try:
            return self.classifier(adapter).remark
        except DemoError:
            return ""

    def _check_text(self, text: str) -> None:
        if self._is_public():
            check_text(text)

    # --- loading -----------------------------------------------------------------------------------------------------

    def _line(self, adapter: str, precision: str) -> Line:
        """The adapter's line, loaded at its first use; the least recently used one makes room."""
        if not (isinstance(adapter, str) and isinstance(precision, str)):  # both come from anyone's browser
            raise AdapterError("The adapter and its precision are no names; choose them of their lists.")
        adapter, precision = adapter.strip(), precision.strip()
        if precision and precision not in PRECISIONS:
            raise SettingsError(
                {"precision": f"There is no precision {precision[:20]!r}; give {', '.join(filter(None, PRECISIONS))}."}
            )
        if adapter.startswith("taught-"):
            return self._taught_line(adapter, precision)
        version = f"{self._version(adapter)} {precision}"
        if (found := self._remembered(version)) is not None:
            return found
        folder = self._find(adapter)  # before the lock: it may fetch from the Hub, and others want to build
        with building:
            # Who waited here may find that another has loaded it.
            if (found := self._remembered(version)) is not None:
                return found
            line = Line(self._load(folder, adapter, precision))
            with self._cached:
                self._lines[version] = line
                while len(self._lines) > CLASSIFIERS_KEPT:
                    self._lines.popitem(last=False)
            return line

    def _taught_line(self, name: str, precision: str) -> Line:
        with self._cached:
            line = self._taught.get(name)
        if line is None:
            raise AdapterError("The taught adapter was forgotten, since others were taught after it; teach it again.")
        if precision not in ("", line.classifier.precision):
            raise AdapterError(f"The taught adapter is there at {line.classifier.precision} only; choose that.")
        return line

    def _remembered(self, version: str) -> Line | None:
        with self._cached:
            if version in self._lines:
                self._lines.move_to_end(version)
            return self._lines.get(version)

    def _version(self, adapter: str) -> str:
        """The adapter's name, of a run with the time it was written: a resumed run writes another one under the same
        name.
        """
        try:
            return f"{adapter} {(self._store.home / adapter / 'adapter' / 'report.json').stat().st_mtime_ns}"
        except (OSError, ValueError):
            return adapter

    def _find(self, adapter: str) -> Path:
        """The adapter's folder, its base at hand; strangers may have those of the list, and of the Hub such as rest on
        a base of theirs.
        """
        engine.load()
        from ..engine.models import adapters, hubadapters, modeling, sources

        offered = not self._is_public() or adapter in {name for _, name in self.adapters()}
        if not offered and not hubadapters.is_hub_name(adapter):
            raise RunError(
                f"There is no adapter {adapter[:60]!r} here; choose one of the list, or give its name on the Hub."
            )
        # A name on the Hub may be that of a folder here, too, which is not for strangers.
        folder = adapters.find_adapter(adapter, self._store.home) if offered else hubadapters.fetch_adapter(adapter)
        note = modeling.read_note(folder)
        if note.model != SAMPLE:
            if not offered:
                self._check_base(note.base_name, note.revision)
            sources.resolve(note.base_name, note.revision)
        return folder

    def _load(self, folder: Path, adapter: str, precision: str) -> Classifier:
        from ..engine.classify import classifier as inference
        from ..engine.models import adapters

        parameters = adapters.read_parameters(folder)
        if parameters is not None and parameters > TYPED_LIMIT_PARAMETERS:
            raise DeviceError(
                f"The base has {parameters / 1e9:.1f} billion parameters, too many to answer as you type; "
                f"use `python -m qlora_demo classify --adapter {adapter} TEXT`."
            )
        return inference.Classifier(str(folder), on_cpu=True, precision=precision, restored=True)

    def _label(self, job: Job) -> str:
        summary = job.summary()
        accuracy = (summary["metrics"] or {}).get("accuracy")
        judged = f", {accuracy:.0%} right" if accuracy is not None else ""
        data = str(summary["data"])
        named = UNNAMED if self._is_public() and was_upload(data, self._store.home) else Path(data).name
        return f"{summary['name'] or f'Run {job.id}'}: {Path(str(summary['model'])).name} on {named}{judged}"
