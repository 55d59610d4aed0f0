"""What visitors may ask of a public host: the limits, each with its reason, and the checks of a request against them.

Judges settings alone, so that it costs nothing; a model's size on the Hub is for services/downloads.py to ask. Knows
neither engine nor page."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from ..core.config import RunConfig
from ..core.errors import DataError, RunError, SettingsError
from ..core.format import GiB, MiB, size
from ..core.names import SAMPLE
from ..core.paths import is_hub_id
from ..core.requests import ClassifyRequest, MemoryRequest

RUNS_EACH = 2  # of one visitor: one runs, and the next is in line
RUNS_IN_ALL = 20  # a longer line is one that nobody waits for
STEPS = 600  # three of the sample's runs: some six minutes on two cores
TOKENS_PER_STEP = 32 * 512  # memory of a step grows with them
RANK = 64
ROWS = 50_000  # that are read and shuffled in memory
EVALUATIONS = 20  # each scores all validation reviews
SAMPLE_ROWS = 3_197
LABELS = 50
PINNED_CHARACTERS = 400
REVIEW_CHARACTERS = 5_000  # typed; the model reads far fewer
UPLOAD_BYTES = 20 * MiB  # read whole while it is examined, at some twenty times its size
ALL_UPLOADS_BYTES = 2 * GiB  # of all visitors together: the disk is not for their files alone
CLASSIFIED_ROWS = 20_000
TEACH_STEPS = 20
# Expensive actions in the app's own process: how many at a time, and what is being done, in words.
TURNS = {
    "read": (2, "reading reviews"),
    "explain": (2, "explaining reviews"),
    "verify": (1, "verifying a baseline"),
    "compare": (1, "comparing precisions"),
    "teach": (1, "teaching an adapter a review"),
    "publish": (2, "publishing adapters"),
    "pack": (2, "packing adapters"),
    "merge": (1, "merging an adapter with its base"),
}
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
# Any other data set may unpack to any size, and is read by the app itself.
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
    """Whether visitors may ask for it: all problems at once, each beside its field. Raises SettingsError.

    `adapters`: the names of those that are offered here; `loaded`: whether weights are read, and not only a shape.
    """
    if isinstance(request, ClassifyRequest):
        problems = _problems_of_file(request, adapters)
    elif isinstance(request, MemoryRequest):
        problems = _problems_of_model(request.model, request.revision, loaded)
        problems |= _too_many(
            "batch_size", "Batch size × tokens per review", request.batch_size * request.length, TOKENS_PER_STEP
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
    """Whether visitors may have a data set of the Hub read. Raises SettingsError."""
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


def check_queue(active: int, own: int) -> None:
    """Raises RunError where the queue holds no more jobs, or the visitor may have no more."""
    if active >= RUNS_IN_ALL:
        raise RunError(f"{active} runs are queued here already, the most there may be; come back later.")
    if own >= RUNS_EACH:
        raise RunError(f"You have {RUNS_EACH} runs here that have not ended, the most there may be; stop one, or wait.")


def check_size(model: str, parameters: int | None, size_bytes: int) -> None:
    """Raises SettingsError for a model that is too large to be loaded for visitors. `parameters`: None where nobody
    says.
    """
    if (parameters or 0) > MODEL_PARAMETERS:
        actual, most = f"{(parameters or 0) / 1e6:,.0f} million parameters", f"{MODEL_PARAMETERS / 1e6:,.0f} million"
    elif size_bytes > MODEL_BYTES:
        actual, most = size(size_bytes), size(MODEL_BYTES)
    else:
        return
    raise SettingsError({"model": f"{_HERE} a model may have {most}, and {model} has {actual}; {_DUPLICATE}."})


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
        f"{_HERE} a run has at most {STEPS} steps, {ROWS:,} training reviews, {TOKENS_PER_STEP:,} tokens per step"
        f" (batch × accumulation × length), rank {RANK}, {EVALUATIONS} evaluations, and a model of at most"
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


_DUPLICATE = "duplicate this Space, or run the app at home, for more"


def _problems_of_run(config: RunConfig, adapters: Collection[str]) -> dict[str, str]:
    problems = _problems_of_data(config.data, config.data_revision) | _problems_of_model(config.model, config.revision)
    if config.start_from and config.start_from not in adapters:
        problems["start_from"] = (
            f"{_HERE} a run starts from an adapter of the list under Classify; choose one, or leave it empty."
        )
    batch = config.batch_size * config.accumulation
    rows = config.rows or (SAMPLE_ROWS if config.data == SAMPLE else 0)
    steps = config.max_steps or math.ceil(config.epochs * rows / batch)
    if not steps:
        problems["max_steps"] = (
            f"{_HERE} a run has at most {STEPS} steps, and how many reviews there are is not known yet; give its steps."
        )
    longest = max(map(len, config.pinned), default=0)
    for field, what, value, most in (
        # Where they come from the epochs, that is the field to change.
        ("max_steps" if config.max_steps else "epochs", "The number of steps", steps, STEPS),
        ("rows", "The number of training reviews", config.rows, ROWS),
        ("max_length", "Batch × accumulation × length", batch * config.max_length, TOKENS_PER_STEP),
        ("rank", "The rank", config.rank, RANK),
        ("evaluations", "The number of evaluations", config.evaluations, EVALUATIONS),
        ("labels", "The number of labels", len(config.labels), LABELS),
        ("pinned", "The length of a pinned review", longest, PINNED_CHARACTERS),
    ):
        problems |= _too_many(field, what, value, most)
    return problems


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
