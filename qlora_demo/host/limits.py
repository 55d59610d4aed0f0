"""What strangers may ask of a public host: the limits, each with its reason, and the checks of a request against them.

Looks at settings alone, so that it costs nothing; what a model weighs on the Hub and who waits already is for
strangers.py to find out. Knows neither engine nor page."""

from __future__ import annotations

import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..core.config import RunConfig
from ..core.errors import DataError, DeviceError, SettingsError
from ..core.format import GiB, MiB, size
from ..core.paths import is_hub_id
from ..core.requests import ClassifyRequest, MemoryRequest

RUNS_EACH = 2  # of one visitor: one runs, and the next is in line
RUNS_IN_ALL = 20  # a longer line is one that nobody waits for
STEPS = 600  # three of the sample's runs: some six minutes on two cores
TOKENS_A_STEP = 32 * 512  # memory of a step grows with them
RANK = 64
ROWS = 50_000  # that are read and shuffled in memory
EVALUATIONS = 20  # each scores all validation reviews
SAMPLE_ROWS = 3_197
LABELS = 50
PINNED_CHARACTERS = 400
REVIEW_CHARACTERS = 5_000  # typed; the model reads far fewer
UPLOAD_BYTES = 20 * MiB  # read whole while it is examined, at some twenty times its size
ROOM_BYTES = 2 * GiB  # for all strangers' files together: the disk is not for them alone
CLASSIFIED_ROWS = 20_000
TEACH_STEPS = 20
EXAMINED_AT_ONCE = EXPLAINED_AT_ONCE = 2
MODEL_PARAMETERS = 700_000_000
MODEL_BYTES = 3 * GiB  # to download, and to keep on the host's disk
MODEL_PARTS = 256  # layers, experts: what is built for a prediction, even where no weight is read
# Always allowed; their revision is the Hub's, for anyone may push a pull request to refs/pr.
MODELS = frozenset(
    {
        "sample",
        "sentence-transformers/all-MiniLM-L6-v2",
        "openai-community/gpt2",
        "openai-community/gpt2-medium",
        "distilbert/distilbert-base-uncased",
        "FacebookAI/roberta-base",
        "google-bert/bert-base-uncased",
        "answerdotai/ModernBERT-base",
        "Qwen/Qwen3-0.6B",
    }
)
# Larger ones whose shape the app carries: their memory can be predicted, but they are not loaded.
SHAPES = frozenset(
    {
        "openai-community/gpt2-large",
        "openai-community/gpt2-xl",
        "google-bert/bert-large-uncased",
        "Qwen/Qwen3-1.7B",
        "Qwen/Qwen3-4B",
        "Qwen/Qwen3-8B",
        "meta-llama/Llama-3.1-70B",
    }
)
# A stranger's data set may unpack to any size, and is read by the app itself.
DATA = frozenset(
    {
        "sample",
        "amazon-reviews",
        "mteb/amazon_reviews_multi",
        "SetFit/amazon_reviews_multi_en",
        "mteb/AmazonReviewsClassification",
    }
)
UPLOAD = re.compile(r"upload:[0-9a-f]{32}/[^/\\\0]{1,100}")
_REVISION = re.compile(r"[\w.-]{0,100}")
_HERE = "On this public page"


def check(
    request: RunConfig | MemoryRequest | ClassifyRequest, adapters: Collection[str] = (), *, loaded: bool = True
) -> None:
    """Whether strangers may ask for it: all problems at once, each beside its field. Raises SettingsError.

    `adapters`: the names of those that are offered here; `loaded`: whether weights are read, and not only a shape.
    """
    if isinstance(request, ClassifyRequest):
        problems = _problems_of_file(request, adapters)
    elif isinstance(request, MemoryRequest):
        problems = _problems_of_model(request.model, request.revision, loaded)
        problems |= _too_many(
            "batch_size", "Reviews a step × tokens a review", request.batch_size * request.length, TOKENS_A_STEP
        )
    else:
        problems = _problems_of_run(request, adapters)
    if problems:
        raise SettingsError(problems)


def check_names(request: RunConfig | MemoryRequest) -> None:
    """As `check`, for the model and the reviews alone, before anything is asked of the Hub. Raises SettingsError."""
    problems = _problems_of_model(request.model, request.revision)
    if isinstance(request, RunConfig):
        problems |= _problems_of_data(request.data, request.data_revision)
    if problems:
        raise SettingsError(problems)


def check_data(name: str, revision: str = "") -> None:
    """Whether strangers may have a data set of the Hub read. Raises SettingsError."""
    if problems := _problems_of_data(name, revision, uploads=False):
        raise SettingsError(problems)


def check_rows(counts: Iterable[int]) -> None:
    """Raises DataError for a file with too many rows to classify; `counts`: of its parts, read no further than need
    be.
    """
    rows = 0
    for count in counts:
        rows += count
        if rows > CLASSIFIED_ROWS:
            raise DataError(
                f"{_HERE} a file may have {CLASSIFIED_ROWS:,} rows to classify, and this one has more; give a part"
                " of it."
            )


def check_text(text: str) -> None:
    """Raises DataError for a review that is too long for a public host."""
    if len(text) > REVIEW_CHARACTERS:
        raise DataError(
            f"{_HERE} a review may have {REVIEW_CHARACTERS:,} characters, and this one has {len(text):,}; shorten it."
        )


def check_size(model: str, parameters: int | None, size_bytes: int) -> None:
    """Raises SettingsError for a model that is too large to be loaded for strangers. `parameters`: None where nobody
    says.
    """
    if (parameters or 0) > MODEL_PARAMETERS:
        told, most = f"{(parameters or 0) / 1e6:,.0f} million parameters", f"{MODEL_PARAMETERS / 1e6:,.0f} million"
    elif size_bytes > MODEL_BYTES:
        told, most = size(size_bytes), size(MODEL_BYTES)
    else:
        return
    raise SettingsError({"model": f"{_HERE} a model may have {most}, and {model} has {told}; {_DUPLICATE}."})


def check_shape(model: str, config: Mapping[str, Any]) -> None:
    """Raises SettingsError for a configuration that would take this machine minutes to build, though its weights are
    few.
    """
    parts = max(_parts(config), default=0)
    if parts > MODEL_PARTS:
        raise SettingsError(
            {"model": f"{_HERE} a model may have {MODEL_PARTS} layers, and {model} names {parts:,}; choose another."}
        )


def describe() -> str:
    """The limits of a run, in a sentence or two: what the page says beside its form."""
    return (
        f"{_HERE} a run has at most {STEPS} steps, {ROWS:,} training reviews, {TOKENS_A_STEP:,} tokens a step (batch ×"
        f" accumulation × length), rank {RANK}, {EVALUATIONS} evaluations, and a model of at most"
        f" {MODEL_PARAMETERS // 10**6} million parameters; you may have {RUNS_EACH} runs at a time. Others may watch a"
        " run, without its pinned reviews; only this browser can stop or delete it. For longer runs use a copy of your"
        " own, or run the app at home."
    )


def describe_uploads() -> str:
    """The limits of files, in a sentence: what the page says beside its fields for them."""
    return (
        f"{_HERE} a file may have {UPLOAD_BYTES // MiB} MiB, and {CLASSIFIED_ROWS:,} rows to classify; nobody else is"
        " shown its rows or its name, and it is deleted after a day."
    )


class Turns:
    """How many of a public host's visitors may have the same slow work done at a time; at home everybody waits
    instead.
    """

    def __init__(self, is_public: Callable[[], bool]):
        self._is_public, self._taken, self._lock = is_public, Counter[str](), threading.Lock()

    @contextmanager
    def take(self, what: str, most: int = 1) -> Iterator[None]:
        """`what` is being done, in words. Raises DeviceError at once where too many have it done."""
        with self._lock:
            if self._is_public() and self._taken[what] >= most:
                raise DeviceError(
                    f"Others are {what} just now, as many as this machine can bear; try again in some ten seconds."
                )
            self._taken[what] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[what] -= 1


_DUPLICATE = "duplicate this Space, or run the app at home, for more"


def _problems_of_run(config: RunConfig, adapters: Collection[str]) -> dict[str, str]:
    found = _problems_of_data(config.data, config.data_revision) | _problems_of_model(config.model, config.revision)
    if config.start_from and config.start_from not in adapters:
        found["start_from"] = (
            f"{_HERE} a run starts from an adapter of the list under Classify; choose one, or leave it empty."
        )
    batch = config.batch_size * config.accumulation
    rows = config.rows or (SAMPLE_ROWS if config.data == "sample" else 0)
    if not config.max_steps and not rows:
        found["max_steps"] = (
            f"{_HERE} a run has at most {STEPS} steps, and how many reviews there are is not known yet; give its steps."
        )
    else:
        steps = config.max_steps or math.ceil(config.epochs * rows / batch)
        # Where they come from the epochs, that is the field to change.
        found |= _too_many("max_steps" if config.max_steps else "epochs", "The number of steps", steps, STEPS)
    found |= _too_many("rows", "The number of training reviews", config.rows, ROWS)
    found |= _too_many("max_length", "Batch × accumulation × length", batch * config.max_length, TOKENS_A_STEP)
    found |= _too_many("rank", "The rank", config.rank, RANK)
    found |= _too_many("evaluations", "The number of evaluations", config.evaluations, EVALUATIONS)
    found |= _too_many("labels", "The number of labels", len(config.labels), LABELS)
    found |= _too_many(
        "pinned", "The length of a pinned review", max(map(len, config.pinned), default=0), PINNED_CHARACTERS
    )
    return found


def _problems_of_model(model: str, revision: str, loaded: bool = True) -> dict[str, str]:
    if not is_hub_id(model):
        return {
            "model": f"{_HERE} a model is `sample` or a name on the Hub, such as openai-community/gpt2, never a path."
        }
    if not _REVISION.fullmatch(revision) or ".." in revision:
        return {"revision": f"{_HERE} a revision is a branch, a tag or a commit, never a pull request; leave it empty."}
    if loaded and model in SHAPES:
        return {
            "model": (
                f"{_HERE} a model may have {MODEL_PARAMETERS // 10**6} million parameters, and {model} has more;"
                f" {_DUPLICATE}."
            )
        }
    return {}


def _problems_of_data(data: str, revision: str, *, uploads: bool = True) -> dict[str, str]:
    if data not in DATA and not (uploads and UPLOAD.fullmatch(data) and ".." not in data):
        return {
            "data": (
                f"{_HERE} the reviews are a file that you upload on the Data tab, or one of {', '.join(sorted(DATA))}."
            )
        }
    if not _REVISION.fullmatch(revision) or ".." in revision:
        return {
            "data_revision": f"{_HERE} a revision is a branch, a tag or a commit, never a pull request; leave it empty."
        }
    return {}


def _problems_of_file(request: ClassifyRequest, adapters: Collection[str]) -> dict[str, str]:
    if request.adapter in adapters:
        return {}
    return {"adapter": f"{_HERE} a file is classified by an adapter of the list; choose one."}


def _too_many(field: str, what: str, value: int, most: int) -> dict[str, str]:
    return {field: f"{what} is {value:,}; {_HERE[0].lower()}{_HERE[1:]} it may be {most:,}."} if value > most else {}


def _parts(config: Mapping[str, Any]) -> Iterator[int]:
    """The counts of layers and experts in a model's configuration, and in those inside it."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _parts(value)
        elif isinstance(value, int) and re.search("layer|expert", name):
            yield value
