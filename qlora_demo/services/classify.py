"""Reviews classified, explained, and taught to a copy of an adapter; an adapter evaluated on labelled reviews.

All functions may be called from any thread, and raise DemoErrors; `adapter` and `precision` as in loaded.Adapters. The
engine (and with it torch) is imported by the functions that need it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import engine
from ..core.errors import DataError, DemoError, SettingsError
from ..core.names import SAMPLE
from ..core.records import PrecisionComparison, Prediction
from ..core.requests import DataRequest
from ..core.run_report import Metrics
from ..host.host import Host
from ..host.limits import TEACH_STEPS
from ..host.redaction import UNNAMED
from ..jobs.store import Job
from ..storage.corrections import Feedback
from ..storage.uploads import was_upload
from .loaded import Adapters, Question

if TYPE_CHECKING:
    from ..engine.classify.classifier import Classifier
    from ..engine.classify.explain import Explanation
    from ..engine.classify.teaching import Taught

COMPARED_ROWS = 400
BATCH = 64  # texts that are asked together


class ClassifyService:
    """The typed reviews of one host, and what is asked of its adapters."""

    def __init__(self, host: Host, adapters: Adapters):
        self._host, self._adapters = host, adapters
        self._corrections = Feedback(host.home)

    # --- reviews -----------------------------------------------------------------------------------------------------

    def classify(
        self, text: str, adapter: str = SAMPLE, calibrated: bool = False, *, scale: float = 1.0, precision: str = ""
    ) -> Prediction:
        """One review by the tuned network; `calibrated`: see Classifier.classify; `scale`: see Classifier.score."""
        return self._ask([Question(text, scale=scale)], adapter, precision, calibrated)[0]

    def classify_both(
        self, text: str, adapter: str = SAMPLE, calibrated: bool = False, *, scale: float = 1.0, precision: str = ""
    ) -> tuple[Prediction, Prediction]:
        """(tuned, base) of one review; the base is the same network as it was before training."""
        questions = [Question(text, scale=scale), Question(text, base=True)]
        tuned, base = self._ask(questions, adapter, precision, calibrated)
        return tuned, base

    def classify_many(self, texts: Sequence[str], adapter: str = SAMPLE, *, base: bool = False) -> list[Prediction]:
        """Reviews in their order, by the tuned network or the base. None is read before all can be."""
        engine.load()
        from ..engine.classify.classifier import check_texts

        check_texts(texts)
        batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
        return [
            prediction
            for batch in batches
            for prediction in self._ask([Question(text, base=base) for text in batch], adapter)
        ]

    def explain(
        self,
        text: str,
        adapter: str = SAMPLE,
        *,
        label: str | None = None,
        base: bool = False,
        precision: str = "",
        scale: float = 1.0,
    ) -> Explanation:
        """Which words the answer rests on; takes about a second.

        `label`: the one explained, None = the likeliest."""
        self._host.check_text(text)
        engine.load()
        from ..engine.classify import classifier as inference
        from ..engine.classify import explain

        inference.check_texts([text])
        with self._host.turn("explain"):
            classifier = self.classifier(adapter, precision)
            return explain.explain(classifier, text, label=label, base=base, scale=scale)

    def correct(self, text: str, adapter: str, label: str) -> int:
        """Keeps which label a review should have had; how many corrections are kept."""
        self.place_of(label, adapter)
        return self._corrections.add(text, label, adapter=adapter, answered=self.classify(text, adapter).label)

    def _ask(
        self, questions: list[Question], adapter: str, precision: str = "", calibrated: bool = False
    ) -> list[Prediction]:
        for question in questions:
            self._host.check_text(question.text)
        return self._adapters.get(adapter, precision).ask(questions, calibrated)

    # --- adapters ----------------------------------------------------------------------------------------------------

    def adapters(self) -> list[tuple[str, str]]:
        """(title, name) of the shipped adapter and of every run that has one, newest first."""
        runs = [(self._title(job), job.id) for job in self._host.adapter_runs()]
        return [("Shipped with the app (MiniLM, sample reviews)", SAMPLE), *runs]

    def classifier(self, adapter: str = SAMPLE, precision: str = "") -> Classifier:
        """The loaded classifier itself; it answers others meanwhile."""
        return self._adapters.get(adapter, precision).classifier

    def temperature(self, adapter: str) -> float | None:
        """What the adapter's run fitted to divide its logits by; None where it fitted none, or cannot be used here."""
        try:
            return self.classifier(adapter).temperature
        except DemoError:
            return None

    def remark(self, adapter: str = SAMPLE) -> str:
        """What to know about an adapter that this app has not made, in a sentence; "" where there is nothing."""
        try:
            return self.classifier(adapter).remark
        except DemoError:
            return ""

    def place_of(self, label: str, adapter: str = SAMPLE) -> int:
        """The index of one of the adapter's labels. Raises DataError."""
        labels = self.classifier(adapter).labels
        if label not in labels:
            problem = f"There is no label {label[:40]!r}" if label else "No label is chosen"
            raise DataError(f"{problem}; choose the right one of {', '.join(labels)}.")
        return labels.index(label)

    def forget(self, adapter: str) -> None:
        """Drops an adapter: a taught one for good, another until it is asked for again, and read anew."""
        self._adapters.forget(adapter)

    def _title(self, job: Job) -> str:
        summary = job.summary()
        accuracy = (summary.metrics or {}).get("accuracy")
        quality = f", {accuracy:.0%} right" if accuracy is not None else ""
        data = str(summary.data)
        name = UNNAMED if self._host.public and was_upload(data, self._host.home) else Path(data).name
        return f"{summary.name or f'Run {job.id}'}: {Path(str(summary.model)).name} on {name}{quality}"

    # --- measured ----------------------------------------------------------------------------------------------------

    def evaluate(self, request: DataRequest, adapter: str = SAMPLE, *, base: bool = False) -> Metrics:
        """The adapter, or the base, judged on labelled reviews, as `evaluate --json` prints it."""
        self._host.check_data(request)
        engine.load()
        from ..engine.classify.classifier import evaluate

        return evaluate(
            adapter,
            request.data,
            base=base,
            data_config=request.config,
            split=request.split,
            revision=request.revision,
            columns=request,
            runs_home=self._host.home,
        )

    def base_check(self, text: str, adapter: str = SAMPLE, *, precision: str = "") -> float:
        """Largest difference in logits between the base column and the base loaded anew (Classifier.base_check)."""
        self._host.check_text(text)
        with self._host.turn("verify"):
            classifier = self.classifier(adapter, precision)
            return classifier.base_check(text)

    def compare(
        self,
        precision: str,
        adapter: str = SAMPLE,
        *,
        rows: int = COMPARED_ROWS,
        on_progress: Callable[[float], None] = lambda done: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> PrecisionComparison:
        """The adapter at its own precision beside another, on the sample's test reviews (classifier.compare)."""
        with self._host.turn("compare"):
            trained, other = self.classifier(adapter), self.classifier(adapter, precision)
            from ..engine.classify import classifier as inference
            from ..engine.data import dataset

            texts = dataset.load_rows(SAMPLE).splits["test"].texts[:rows]
            return inference.compare(trained, other, texts, on_progress, should_stop)

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
        """A copy of the adapter taught one review, and the name by which it can be asked while it is kept."""
        self._host.check_text(text)
        if self._host.public and steps > TEACH_STEPS:
            raise SettingsError(
                {"steps": f"On this public page a review is taught in {TEACH_STEPS} steps; {steps:,} are too many."}
            )
        engine.load()
        from ..engine.classify import classifier as inference
        from ..engine.classify import teaching

        inference.check_texts([text])
        right, folder = self.place_of(label, adapter), self._adapters.find(adapter.strip())
        with self._host.turn("teach"):
            copy = self._adapters.load(folder, adapter.strip())
            taught = teaching.teach(copy, text, right, steps=steps, on_progress=on_progress, should_stop=should_stop)
        return self._adapters.add_taught(taught.classifier), taught
