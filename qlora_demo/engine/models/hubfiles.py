"""Talking to the Hub about a model's files: what there is, how large it is, fetching it so that it can be stopped.

Fetches only configuration, tokenizer and safetensors: never code, never pickles. Nothing here waits for a silent Hub
longer than a few seconds. Knows neither torch nor what is inside the files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

from huggingface_hub import HfApi, constants, errors, get_token, hf_hub_download

from ...core.cancellation import DownloadStopped, OnProgress, ShouldStop, hub_forbidden, run_within
from ...core.errors import DataError, DemoError, HubError, ModelError
from ...core.paths import is_hub_id
from .compat import plain_http
from .hubcache import COMMIT, Kind, drop_half_files, free_disk_bytes, snapshot_folder

TIMEOUT_SECONDS = 5.0
MIB = 1024**2
CONFIG_LIMIT_BYTES = 5 * MIB
TOKENIZER_FILES = frozenset(
    {
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
        "vocab.txt",
        "tokenizer.model",
        "spiece.model",
        "sentencepiece.bpe.model",
        "spm.model",
    }
)
SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
INDEX = "model.safetensors.index.json"
DATA_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".txt", ".gz", ".zip", ".zst")


@dataclass(frozen=True)
class HubFile:
    """One file on the Hub; `etag` names its blob in the cache."""

    name: str
    size_bytes: int
    etag: str


@dataclass(frozen=True)
class HubSummary:
    """A model (or data set) on the Hub before anything is fetched. `download_bytes` is what is not in the cache yet."""

    id: str
    revision: str
    download_bytes: int
    parameters: int | None
    license: str | None
    gated: bool
    cached: bool
    free_disk_bytes: int
    files: tuple[HubFile, ...]
    kind: Kind = "model"

    @property
    def has_weights(self) -> bool:
        return any(file.name.endswith(".safetensors") for file in self.files)


def offline() -> bool:
    """Whether the Hub must not be asked (QLORA_DEMO_OFFLINE=1, HF_HUB_OFFLINE=1)."""
    return hub_forbidden() or bool(constants.HF_HUB_OFFLINE)


def check_id(model_id: str) -> str:
    """The id, if it has the form of one. Raises ModelError."""
    if is_hub_id(model_id):
        return model_id
    raise ModelError(
        f"{model_id!r} is neither a folder nor a Hub id; give `sample`, an id such as openai-community/gpt2, or a"
        " folder."
    )


def inspect_hub(model_id: str, revision: str = "") -> HubSummary:
    """What the Hub says of a model; one request. Raises ModelError (unknown) or HubError (gated, unreachable,
    refused).
    """
    check_id(model_id)
    if offline():
        raise HubError(
            f"The Hub is not asked for {model_id}, because offline mode is on (QLORA_DEMO_OFFLINE); use `sample` or a"
            " local folder."
        )
    info, files = _ask("model", model_id, revision)
    config = next((file for file in files if file.name == "config.json"), None)
    if config is None:
        raise ModelError(f"{model_id} has no config.json, so it is no transformers model; choose another.")
    if config.size_bytes > CONFIG_LIMIT_BYTES:
        raise ModelError(
            f"{model_id} has a config.json of {config.size_bytes / MIB:,.0f} MiB, which no model needs; choose another."
        )
    return _summary("model", model_id, info, _needed(files), int(info.safetensors.total) if info.safetensors else None)


def inspect_files(model_id: str, revision: str = "") -> HubSummary:
    """What the Hub says of a repository of models, with all of its files, needed or not; one request. Raises as
    `inspect_hub`.
    """
    check_id(model_id)
    if offline():
        raise HubError(f"The Hub is not asked for {model_id}, because offline mode is on; use what is on this machine.")
    info, files = _ask("model", model_id, revision)
    return _summary("model", model_id, info, files, None)


def inspect_dataset(dataset_id: str, revision: str = "", folder: str = "") -> HubSummary:
    """What the Hub says of a data set; its files are those with data (below `folder`, where it has any there).

    One request. Raises DataError (unknown) or HubError.
    """
    info, files = _ask("dataset", dataset_id, revision)
    data = [file for file in files if file.name.endswith(DATA_SUFFIXES)]
    inside = [file for file in data if file.name.startswith(f"{folder}/")] if folder else []
    return _summary("dataset", dataset_id, info, inside or data, None)


def _ask(kind: Kind, repo_id: str, revision: str) -> tuple[Any, list[HubFile]]:
    """The Hub's facts about a repository, and its files."""
    api = HfApi(endpoint=constants.ENDPOINT)
    ask = api.model_info if kind == "model" else api.dataset_info
    try:
        info: Any = run_within(
            lambda: ask(repo_id, revision=revision or None, files_metadata=True, timeout=TIMEOUT_SECONDS),
            TIMEOUT_SECONDS + 1,
        )
    except Exception as error:
        raise _in_words(error, repo_id, revision, kind) from error
    return info, [
        HubFile(item.rfilename, int(item.size or 0), (item.lfs.sha256 if item.lfs else None) or item.blob_id or "")
        for item in info.siblings or []
    ]


def _summary(kind: Kind, repo_id: str, info: Any, files: list[HubFile], parameters: int | None) -> HubSummary:
    sha = str(info.sha)
    if not COMMIT.fullmatch(sha):  # it becomes a folder's name
        raise HubError(f"The Hub ({constants.ENDPOINT}) names no commit for {repo_id}; try again later.")
    missing = [file for file in files if not (snapshot_folder(repo_id, sha, kind) / file.name).exists()]
    return HubSummary(
        id=repo_id,
        revision=sha,
        download_bytes=sum(file.size_bytes for file in missing),
        parameters=parameters,
        license=_license(info),
        gated=bool(info.gated),
        cached=not missing,
        free_disk_bytes=free_disk_bytes(),
        files=tuple(files),
        kind=kind,
    )


def download(
    summary: HubSummary,
    names: tuple[str, ...] | None = None,
    *,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> Path:
    """Fetches the files of `summary` (only `names`, where given) into the Hub cache; the snapshot's folder.

    Raises DownloadStopped soon after `should_stop()` turns true, and HubError for what the Hub or the disk refuses.
    """
    folder = snapshot_folder(summary.id, summary.revision, summary.kind)
    files = [
        file for file in summary.files if (names is None or file.name in names) and not (folder / file.name).exists()
    ]
    total = sum(file.size_bytes for file in files)
    if total > free_disk_bytes():
        raise HubError(
            f"{summary.id} needs {total / MIB:,.0f} MiB of disk, and {free_disk_bytes() / MIB:,.0f} MiB are free in "
            f"{constants.HF_HUB_CACHE}; make room, or set HF_HOME to a larger disk."
        )
    before = 0
    for file in files:
        _fetch(summary, file, before, total, on_progress, should_stop)
        before += file.size_bytes
    return folder


def hub_reachable(timeout: float = 2.0) -> bool:
    """Whether the Hub answers at all within `timeout` seconds; False in offline mode."""
    if offline():
        return False
    from huggingface_hub.utils import get_session

    try:
        answer = run_within(
            lambda: get_session().head(f"{constants.ENDPOINT}/api/models", params={"limit": 1}, timeout=timeout),
            timeout,
        )
    except Exception:  # whatever fails, the answer is no
        return False
    return bool(answer.status_code < 500)


def hub_user(timeout: float = TIMEOUT_SECONDS) -> str | None:
    """The name behind the token; None without a token, and where the Hub does not confirm it in time."""
    if offline() or get_token() is None:
        return None
    try:
        return str(run_within(lambda: HfApi(endpoint=constants.ENDPOINT).whoami(), timeout)["name"])
    except Exception:  # whatever fails, nobody is known
        return None


def _fetch(
    summary: HubSummary,
    file: HubFile,
    before: int,
    total: int,
    on_progress: OnProgress | None,
    should_stop: ShouldStop | None,
) -> None:
    """One file into the cache. On every way out but success its partial file is removed."""
    bar = _Bar()

    def report() -> None:
        if on_progress is not None:
            done = before + bar.bytes
            text = f"{summary.id}: {file.name} ({done / MIB:,.0f} of {total / MIB:,.0f} MiB)"
            on_progress(text, min(1.0, done / total) if total else None)

    def fetch() -> str:
        return hf_hub_download(
            summary.id,
            file.name,
            repo_type=summary.kind,
            revision=summary.revision,
            endpoint=constants.ENDPOINT,
            cache_dir=constants.HF_HUB_CACHE,
            etag_timeout=TIMEOUT_SECONDS,
            tqdm_class=cast(Any, bar.begin),
        )

    try:
        with plain_http(TIMEOUT_SECONDS):
            run_within(fetch, should_stop=should_stop, each=report)
    except BaseException as error:
        bar.ended = True
        # A thread that waits for a silent server cleans up only when it wakes; the user sees the folder now.
        if file.etag:
            drop_half_files(summary.id, summary.kind, file.etag)
        if isinstance(error, DownloadStopped) or not isinstance(error, Exception):
            raise
        raise _in_words(error, summary.id, summary.revision, summary.kind) from error


class _Bar:
    """Stands in for tqdm: counts bytes, and raises in the fetching thread once the caller has gone."""

    def __init__(self) -> None:
        self.bytes, self.ended = 0, False

    def begin(self, *_: Any, initial: int = 0, **__: Any) -> Self:
        """Called as the client calls tqdm's class: at the start of a file, and again where a cut one goes on."""
        self.bytes = initial or 0
        return self

    def update(self, n: float | None = 1) -> None:
        self.bytes += int(n or 0)
        if self.ended:
            raise DownloadStopped("The download was stopped.")

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


def _needed(files: list[HubFile]) -> list[HubFile]:
    """Configuration first, then the tokenizer, then the weights: one file where there is one, else index and shards."""
    by_name = {file.name: file for file in files}
    weights = (
        ["model.safetensors"]
        if "model.safetensors" in by_name
        else ([INDEX, *sorted(name for name in by_name if SHARD.fullmatch(name))] if INDEX in by_name else [])
    )
    return [by_name[name] for name in ["config.json", *sorted(TOKENIZER_FILES & by_name.keys()), *weights]]


def _license(info: Any) -> str | None:
    stated = info.card_data.get("license") if info.card_data else None
    tagged = next((tag.partition(":")[2] for tag in info.tags or [] if tag.startswith("license:")), None)
    return str(stated if isinstance(stated, str) else tagged) if stated or tagged else None


def _in_words(error: Exception, repo_id: str, revision: str, kind: Kind = "model") -> Exception:
    """The sentence for what the Hub library raised; errors that are no fault of Hub, disk or user are handed back as
    they are.
    """
    status = getattr(getattr(error, "response", None), "status_code", None)
    wrong: type[DemoError] = ModelError if kind == "model" else DataError
    what = "model" if kind == "model" else "data set"
    page = f"{constants.ENDPOINT}/{'' if kind == 'model' else 'datasets/'}{repo_id}"
    if isinstance(error, errors.GatedRepoError) or (status == 403 and isinstance(error, errors.HfHubHTTPError)):
        return HubError(f"{repo_id} is gated or not open to you; ask for access at {page} and set HF_TOKEN.")
    if isinstance(error, errors.RevisionNotFoundError):
        return wrong(f"{repo_id} has no revision {revision!r}; give a commit, tag or branch that exists, or none.")
    if isinstance(error, errors.RepositoryNotFoundError):
        return wrong(
            f"There is no {what} {repo_id!r} on the Hub that you may see; check the id, or set HF_TOKEN if it is"
            " private."
        )
    if isinstance(error, errors.HFValidationError):
        return wrong(f"{repo_id!r} is no Hub id; give one such as openai-community/gpt2.")
    if isinstance(error, errors.HfHubHTTPError):
        return HubError(
            f"The Hub answered {status} for {repo_id}; " + ("check HF_TOKEN." if status == 401 else "try again later.")
        )
    if isinstance(error, OSError) and error.errno == 28:
        return HubError(f"The disk is full at {constants.HF_HUB_CACHE}; make room, or set HF_HOME to a larger disk.")
    if isinstance(error, (OSError, TimeoutError, errors.LocalEntryNotFoundError)) or type(error).__module__.startswith(
        "httpx"
    ):
        local = "`sample` or a local folder" if kind == "model" else "`sample` or a file"
        return HubError(
            f"The Hub ({constants.ENDPOINT}) cannot be reached for {repo_id}; check the network, or use {local}."
        )
    return error
