"""Reviews from the Hub: how large a data set is, fetching it with cancellation, its rows by split.

Loading scripts are never run (datasets >= 4 refuses them), so the tutorial's set is read as files, its revision pinned.
Knows neither labels nor columns.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ...core.cancellation import DownloadStopped, run_within
from ...core.errors import DataError, DemoError, HubError
from ..models.hubcache import drop_half_files, snapshot_folder
from ..models.hubfiles import (
    HubSummary,
    OnProgress,
    ShouldStop,
    download,
    hub_forbidden,
    hub_reachable,
    inspect_dataset,
)
from .reading.chunks import Row
from .reviews import SPLITS

Rows = dict[str, list[Row]]

# The tutorial's data set, then the copies to fall back on: (repository, configuration or None).
AMAZON = "mteb/amazon_reviews_multi"
AMAZON_REVISION = "1399c76144fd37290681b995c656ef9b2e06e26d"
AMAZON_FALLBACKS = (("SetFit/amazon_reviews_multi_en", None), ("mteb/AmazonReviewsClassification", "en"))


def inspect_reviews(data: str, config: str = "", revision: str = "") -> HubSummary:
    """What would be fetched for `data`; of a data set in several configurations that is at most this. Raises
    DemoErrors.
    """
    _refuse_offline(data)
    if data in ("amazon-reviews", AMAZON):
        try:
            return inspect_dataset(AMAZON, revision or AMAZON_REVISION, config or "en")
        except (DataError, HubError) as error:
            for name, configuration in AMAZON_FALLBACKS if data == "amazon-reviews" and hub_reachable() else ():
                with suppress(DataError, HubError):
                    return inspect_dataset(name, folder=configuration or "")
            raise error
    return inspect_dataset(_checked(data), revision, config)


def read_hub(
    data: str,
    config: str = "",
    revision: str = "",
    *,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> tuple[str, str, Rows]:
    """(repository, revision asked for, rows by split). Raises DataError, HubError, DownloadStopped."""
    _refuse_offline(data)
    if data not in ("amazon-reviews", AMAZON):
        options = {"name": config or None, "revision": revision or None}
        return data, revision, _load(_checked(data), lambda load: load(data, **options), should_stop)
    pinned = revision or AMAZON_REVISION
    try:
        return AMAZON, pinned, _read_amazon(pinned, config or "en", on_progress, should_stop)
    except DownloadStopped:
        raise
    except DemoError as error:
        # A Hub that is away has no copies either, and the library would ask for each again and again.
        for name, configuration in AMAZON_FALLBACKS if data == "amazon-reviews" and hub_reachable() else ():
            try:
                return name, "", _load(name, _by_name(name, configuration), should_stop)
            except DownloadStopped:
                raise
            except DemoError:
                continue
        raise error


def _read_amazon(revision: str, config: str, on_progress: OnProgress | None, should_stop: ShouldStop | None) -> Rows:
    """From the Hub's cache where all of it is there, else fetched first."""
    folder = snapshot_folder(AMAZON, revision, "dataset") / config
    if not all((folder / f"{split}.jsonl").is_file() for split in SPLITS):
        summary = inspect_dataset(AMAZON, revision, config)
        folder = download(summary, on_progress=on_progress, should_stop=should_stop) / config
    files = {split: str(folder / f"{split}.jsonl") for split in SPLITS}
    return _load(AMAZON, lambda load: load("json", data_files=files), should_stop)


def _by_name(name: str, configuration: str | None) -> Callable[[Any], Any]:
    return lambda load: load(name, name=configuration)


def _load(name: str, call: Callable[[Any], Any], should_stop: ShouldStop | None) -> Rows:
    """`call(datasets.load_dataset)`, its many errors turned into one sentence about the data set `name`."""
    import datasets

    datasets.disable_progress_bars()
    try:
        dataset = run_within(lambda: call(datasets.load_dataset), should_stop=should_stop)
    except DownloadStopped:
        drop_half_files(name)
        raise
    except Exception as error:  # datasets and huggingface_hub raise many kinds; the reader needs one sentence
        raise HubError(
            f"The data set {name} could not be loaded from the Hub ({type(error).__name__}); check its name, your"
            " network, or use `sample` or a file."
        ) from error
    return _split_rows(dataset, name)


def _split_rows(dataset: Any, name: str) -> Rows:
    """Rows by split; a missing validation or test split is cut from the training split."""
    if "train" not in dataset:
        raise DataError(f"The data set {name} has no train split (it has {', '.join(dataset)}); choose another.")
    rows = {split: list(dataset[split]) for split in SPLITS if split in dataset}
    for split in ("validation", "test"):
        if split not in rows:
            order = random.Random(0).sample(range(len(rows["train"])), len(rows["train"]))
            cut = max(1, len(order) // 10)
            rows[split] = [rows["train"][i] for i in order[:cut]]
            rows["train"] = [rows["train"][i] for i in order[cut:]]
    return rows


def _checked(data: str) -> str:
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", data):
        raise DataError(
            f"{data!r} is neither a file nor a data set's name; give a path, `sample`, or a Hub id such as {AMAZON}."
        )
    return data


def _refuse_offline(data: str) -> None:
    if hub_forbidden():
        raise HubError(f"{data} must come from the Hub, which QLORA_DEMO_OFFLINE=1 forbids; choose `sample` or a file.")
