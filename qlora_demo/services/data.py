"""What the Data tab asks of reviews: read, examined, searched, and shown as the model gets them. The last read ones are
kept for a while.

Composes the engine for the page. Knows nothing of gradio and of runs.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import engine
from ..core.cancellation import ShouldStop, never, silent
from ..core.data_report import DataReport, PreviewRow, Subset, TokenizedReview
from ..core.errors import DataError, DemoError
from ..core.names import SAMPLE
from ..core.paths import is_data_file
from ..core.requests import DataRequest
from ..host.host import Host
from ..host.limits import MODELS

if TYPE_CHECKING:
    from ..engine.data.dataset import DataSet

KEPT = 2
KEPT_BYTES = 256 << 20  # of texts: beyond it only the newest data set is kept
KEPT_SECONDS = 600.0  # unused for so long, a data set is let go
LARGE_FILE_BYTES = 20 << 20  # such files are read one at a time: each may take seconds, and up to 2 GB while it is read
LONGEST = 100_000  # characters of a review that are turned into tokens for one who looks at it
OnPhase = Callable[[str, float], None]  # what is done now, and the share of the whole that lies behind


class DataService:
    """The reviews that are read on one host, for the page and the command line.

    All functions may be called from any thread, and raise DemoErrors; the reviews are read anew where they were let go.
    """

    def __init__(self, host: Host):
        self._host = host
        self._kept: OrderedDict[tuple[Any, ...], tuple[DataSet, int, float]] = (
            OrderedDict()
        )  # with bytes, and when it was last used
        self._held = threading.Lock()
        self._reading = threading.Lock()

    # --- the whole ---------------------------------------------------------------------------------------------------

    def examine(
        self, request: DataRequest, model: str = SAMPLE, on_phase: OnPhase = silent, should_stop: ShouldStop = never
    ) -> DataReport:
        """The report of the reviews, by the tokens of `model`, with what is for the page alone.

        `should_stop`: ends a download, with DownloadStopped."""
        data = self._read(request, on_phase, should_stop)
        from ..engine.data import audit

        tokenizer, counted_by, problem = self._tokenizer(model)
        most = min(int(tokenizer.model_max_length), 8192)
        on_phase("Counting tokens, duplicates, conflicting labels and languages", 0.6)
        # At the model's own limit: what a chosen length would cut, the page works out from the counts by length.
        report = audit.examine(data.only(request.split), tokenizer, most)
        splits = tuple(name for name, reviews in data.splits.items() if len(reviews))
        return report.model_copy(
            update={
                "tokenizer": counted_by,
                "tokenizer_problem": problem,
                "available_splits": splits if len(splits) > 1 else (),
            }
        )

    def report(self, request: DataRequest, model: str, max_length: int) -> DataReport:
        """As `data --json` prints it: `request.data` may also be a preset or a folder, and the reviews are cut at
        `max_length` tokens of `model`, whose tokenizer is fetched where need be."""
        self._host.check_data(request)
        engine.load()
        from ..engine.data import audit
        from ..engine.models import modeling, sources

        tokenizer = modeling.load_tokenizer(sources.resolve(model))
        data = self._load(request, silent, never).only(request.split)
        return audit.examine(data, tokenizer, min(max_length, tokenizer.model_max_length))

    def subset(self, request: DataRequest, rows: int, seed: int = 42) -> Subset:
        """What a run would train on that asks for `rows` reviews (0 = all).

        A file is divided as for training; reviews with titles may fall a little otherwise there, where one text has
        several."""
        data = self._read(request)
        import numpy as np

        from ..engine.data.splitting import divide, stratified

        if not data.labels:
            raise DataError("The reviews have no labels; name the label column.")
        if "train" in data.splits:
            labels = data.splits["train"].labels
        else:
            reviews = data.splits["all"]
            keys = np.fromiter(map(hash, reviews.texts), np.int64, len(reviews))
            labels = [reviews.labels[i] for i in divide(reviews.labels, keys, data.labels, seed)["train"]]
        whole = Counter(labels)
        chosen = Counter(labels[i] for i in stratified(labels, rows, seed)) if rows else whole
        balance = {name: (whole[i], chosen[i]) for i, name in enumerate(data.labels)}
        return Subset(available=len(labels), rows=sum(chosen.values()), balance=balance)

    # --- single reviews ----------------------------------------------------------------------------------------------

    def preview(
        self, request: DataRequest, query: str = "", start: int = 0, count: int = 10
    ) -> tuple[list[PreviewRow], int]:
        """(`count` of the reviews that contain `query`, from number `start` on; how many there are)."""
        data = self._read(request).only(request.split)
        from ..engine.data import audit

        return audit.preview(data, query, start, count)

    def as_model_sees(
        self,
        request: DataRequest,
        split: str,
        row: int,
        max_length: int,
        model: str = SAMPLE,
        beside: Sequence[tuple[str, int]] = (),
    ) -> TokenizedReview:
        """A review as the model gets it, padded to the longest of the reviews `beside` it (split and row, from 1)."""
        data = self._read(request)
        from ..engine.data import audit

        text = _text(data, split, row)
        tokenizer, _, _ = self._tokenizer(model)
        others = [_text(data, *other)[:LONGEST] for other in beside]
        longest = max(map(len, tokenizer(others, truncation=True, max_length=max_length)["input_ids"])) if others else 0
        review = audit.as_model_sees(text[:LONGEST], tokenizer, max_length, longest)
        rest = text[LONGEST:]
        return review.model_copy(
            update={"text": text, "cut_text": review.cut_text + rest, "unread_characters": len(rest)}
        )

    # --- reading -----------------------------------------------------------------------------------------------------

    def _read(self, request: DataRequest, on_phase: OnPhase = silent, should_stop: ShouldStop = never) -> DataSet:
        """The reviews, from memory where they are there still."""
        self._host.check_data(request)
        check_source(request)
        on_phase("Loading the libraries", 0.05)
        engine.load()
        key = (replace(request, split=""), _stamp(request))
        if (found := self._remembered(key)) is not None:
            return found
        large = not request.hub and request.data != SAMPLE and _stamp(request)[1] >= LARGE_FILE_BYTES
        if large and not self._reading.acquire(blocking=False):
            on_phase("Waiting: another large file is being read", 0.1)
            self._reading.acquire()
        try:
            # Who waited here may find that another has read it.
            if (found := self._remembered(key)) is not None:
                return found
            on_phase("Fetching the reviews" if request.hub else "Reading the rows", 0.2)
            with self._host.turn("read"):
                return self._keep(key, self._load(request, on_phase, should_stop))
        finally:
            if large:
                self._reading.release()

    def _load(self, request: DataRequest, on_phase: OnPhase, should_stop: ShouldStop) -> DataSet:
        from ..engine.data import dataset as data

        return data.read_all(
            request.data,
            config=request.config,
            revision=request.revision,
            columns=request,
            should_stop=should_stop,
            on_progress=lambda text, share: on_phase(text, 0.2 + 0.3 * (share or 0)),
        )

    def _remembered(self, key: tuple[Any, ...]) -> DataSet | None:
        with self._held:
            if key not in self._kept:
                return None
            data, held, _ = self._kept.pop(key)
            self._kept[key] = (data, held, time.monotonic())
            return data

    def _keep(self, key: tuple[Any, ...], data: DataSet) -> DataSet:
        held = sum(sum(map(sys.getsizeof, reviews.texts)) for reviews in data.splits.values())
        with self._held:
            self._kept[key] = (data, held, time.monotonic())
            while len(self._kept) > KEPT or (
                len(self._kept) > 1 and sum(size for _, size, _ in self._kept.values()) > KEPT_BYTES
            ):
                self._kept.popitem(last=False)
        self._let_go_later()
        return data

    def _let_go_later(self) -> None:
        timer = threading.Timer(KEPT_SECONDS + 1, self.let_go)
        timer.daemon = True
        timer.start()

    def let_go(self, unused_seconds: float = KEPT_SECONDS) -> None:
        """Drops what nobody has used for so long; what is used still is looked at again later."""
        before = time.monotonic() - unused_seconds
        with self._held:
            for key in [key for key, (_, _, used) in self._kept.items() if used <= before]:
                del self._kept[key]
            left = len(self._kept)
        if left:
            self._let_go_later()

    def _tokenizer(self, model: str) -> tuple[Any, str, str]:
        """(tokenizer, whose it is, why it is not that of `model`): only what is on this machine; nothing is fetched for
        it.
        """
        if self._host.public and model not in MODELS:  # a path, else, whose folder would be looked into
            model = SAMPLE
        engine.load()
        from ..engine.models import modeling, sources

        try:
            return modeling.load_tokenizer(sources.resolve(model, download=False)), model, ""
        except DemoError:
            if model == SAMPLE:
                raise
            problem = f"The model {model[:80]} is not on this machine yet, so the tokens are those of the sample's."
            return modeling.load_tokenizer(sources.resolve(SAMPLE)), SAMPLE, problem


def check_source(request: DataRequest) -> None:
    """Raises DataError where a name meant for the Hub could be taken for a path of this machine, or a file is not there
    any more.
    """
    if request.hub:
        if (
            is_data_file(request.data)
            or not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", request.data)
            or os.path.exists(request.data)
        ):
            raise DataError(
                f"{request.data[:80]!r} is no data set's name on the Hub; give one such as mteb/amazon_reviews_multi."
            )
    elif request.data != SAMPLE and not os.path.isfile(request.data):
        raise DataError(f"The file {os.path.basename(request.data)[:80]} is not there (any more); choose it again.")


def _stamp(request: DataRequest) -> tuple[int, int]:
    """When a file was changed and its bytes; a changed file is read anew."""
    if request.hub or request.data == SAMPLE:
        return 0, 0
    found = os.stat(request.data)
    return found.st_mtime_ns, found.st_size


def _text(data: DataSet, split: str, row: int) -> str:
    texts = data.splits[split].texts if split in data.splits else []
    if not 1 <= row <= len(texts):
        raise DataError(f"There is no review {row} in {split[:40]!r}; choose one of the list.")
    return texts[row - 1]
