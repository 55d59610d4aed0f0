"""Adapters that are loaded back from the Hub by name: asked about, checked, fetched, checked again; and those that
other programs made.

Fetches five files at most, never a pickle, never code. What an adapter may be is adapter_checks'; how the Hub is asked
is hubfiles'."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import cached_assets_path
from safetensors.torch import save_file

from ...core.cancellation import DownloadStopped, ShouldStop
from ...core.errors import AdapterError, DemoError, HubError, ModelError
from ...core.format import MiB, shorten, size
from ...core.paths import is_hub_id
from . import adapter_checks as checks
from .blueprint import load_config, read_blueprint
from .hubcache import cached_snapshot, remember_reference
from .hubfiles import HubSummary, OnProgress, download, inspect_files
from .modeling import HEAD_FILE, NOTE_FILE, AdapterNote
from .sources import PICKLES, SAMPLE_HUB_ID, SAMPLE_REVISION, ModelSource, resolve

CONFIG_FILE, WEIGHTS_FILE, REPORT_FILE, REMARK_FILE = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "report.json",
    "remark.txt",
)
SMALL = (CONFIG_FILE, NOTE_FILE)
LIMITS_BYTES = {CONFIG_FILE: MiB, NOTE_FILE: MiB, REPORT_FILE: 20 * MiB, WEIGHTS_FILE: 500 * MiB, HEAD_FILE: 500 * MiB}
FOREIGN_LENGTH = 512  # tokens, of an adapter that does not say
_NAME = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(@(?P<revision>[\w./-]{1,100}))?", re.ASCII
)


def is_hub_name(adapter: str) -> bool:
    """Whether `adapter` has the form user/name or user/name@revision."""
    return _NAME.fullmatch(adapter) is not None and ".." not in adapter and "--" not in adapter


def fetch_adapter(
    adapter: str, *, on_progress: OnProgress | None = None, should_stop: ShouldStop | None = None
) -> Path:
    """The folder of an adapter of the Hub, checked and ready to be loaded; its base is asked for its configuration
    alone.

    adapter: user/name, or user/name@revision (a commit, tag or branch). Where the Hub is away, what was fetched before
    is taken. Raises AdapterError for one that cannot be used, ModelError and HubError for what the Hub refuses or the
    base is not, DownloadStopped."""
    match = _NAME.fullmatch(adapter)
    if match is None or not is_hub_name(adapter):
        raise AdapterError(
            f"{adapter[:120]!r} is no adapter's name on the Hub; give one such as user/name, or user/name@revision."
        )
    repo, revision = match["repo"], match["revision"] or ""
    try:
        folder, sha = _fetch(inspect_files(repo, revision), adapter, revision, on_progress, should_stop)
    except DownloadStopped:
        raise
    except HubError:
        if (kept := cached_snapshot(repo, revision)) is None or not (kept[0] / WEIGHTS_FILE).is_file():
            raise
        folder, sha = kept
    if (folder / NOTE_FILE).is_file():
        _check_own(folder, adapter, on_progress, should_stop)
        return folder
    return _adopt(folder, adapter, f"{repo}--{sha}", on_progress, should_stop)


def read_remark(folder: Path) -> str:
    """What one should know of an adapter that this app has not made, in a sentence; "" of its own."""
    try:
        return (folder / REMARK_FILE).read_text(encoding="utf-8")
    except OSError:
        return ""


def _fetch(
    summary: HubSummary, adapter: str, revision: str, on_progress: OnProgress | None, should_stop: ShouldStop | None
) -> tuple[Path, str]:
    """(folder, commit): first the listing is looked at, then the small files, and only then the weights are fetched."""
    sizes = {file.name: file.size_bytes for file in summary.files}
    if CONFIG_FILE not in sizes:
        raise AdapterError(
            f"{adapter} is no adapter: it has no {CONFIG_FILE}; choose another, or give a model as the base of a run."
        )
    if WEIGHTS_FILE not in sizes:
        pickled = next((name for name in sorted(sizes) if any(Path(name).match(pattern) for pattern in PICKLES)), None)
        why = f"only as {Path(pickled).name[:60]}, a format that can run code" if pickled else "not at all"
        raise AdapterError(f"{adapter} has its weights {why}; choose an adapter with {WEIGHTS_FILE}.")
    if NOTE_FILE in sizes and HEAD_FILE not in sizes:
        raise AdapterError(f"{adapter} lacks {HEAD_FILE}, a part of what this app publishes; choose another adapter.")
    names = [name for name in LIMITS_BYTES if name in sizes]
    for name in names:
        if sizes[name] > LIMITS_BYTES[name]:
            raise AdapterError(
                f"{adapter} has a {name} of {size(sizes[name])}, more than {size(LIMITS_BYTES[name])}; choose another"
                " adapter."
            )
    folder = download(summary, tuple(name for name in SMALL if name in names), should_stop=should_stop)
    _read_small(folder, adapter)
    download(summary, tuple(names), on_progress=on_progress, should_stop=should_stop)
    remember_reference(summary.id, revision, summary.revision)
    return folder, summary.revision


def _read_small(folder: Path, adapter: str) -> tuple[dict[str, Any], AdapterNote | None]:
    """The settings, and the note where this app has made the adapter."""
    settings = checks.check_settings(checks.read_object(folder / CONFIG_FILE, adapter), adapter)
    if not (folder / NOTE_FILE).is_file():
        return settings, None
    return settings, checks.check_note(checks.read_object(folder / NOTE_FILE, adapter), settings, adapter)


def _check_own(folder: Path, adapter: str, on_progress: OnProgress | None, should_stop: ShouldStop | None) -> None:
    settings, note = _read_small(folder, adapter)
    assert note is not None
    shapes = checks.read_shapes(folder / WEIGHTS_FILE, adapter)
    if (rows := checks.count_labels(shapes, adapter)) != len(note.labels):
        raise AdapterError(
            f"{adapter} names {len(note.labels)} labels, and its head has {rows}; choose another adapter."
        )
    source = _find_base(
        "sample" if note.model == "sample" else note.base_name, note.revision, adapter, on_progress, should_stop
    )
    head = _check_fit(shapes, settings, source, rows, note.base_name, adapter)
    if not (folder / HEAD_FILE).is_file():
        raise AdapterError(f"{adapter} lacks {HEAD_FILE}, a part of what this app publishes; choose another adapter.")
    checks.check_untrained(checks.read_shapes(folder / HEAD_FILE, adapter), head, adapter)
    if (folder / REPORT_FILE).is_file():
        checks.check_report(checks.read_object(folder / REPORT_FILE, adapter), adapter)


def _adopt(
    folder: Path, adapter: str, place: str, on_progress: OnProgress | None, should_stop: ShouldStop | None
) -> Path:
    """An adapter of another program in a folder of its own, with the note and the untrained head that this app keeps
    beside one.

    How it was trained is not known: its base is taken at FP32, and a head from before its training is made up, always
    the same."""
    settings, _ = _read_small(folder, adapter)
    shapes = checks.read_shapes(folder / WEIGHTS_FILE, adapter)
    rows = checks.count_labels(shapes, adapter)
    base_name, revision = (
        settings.get("base_model_name_or_path"),
        checks.check_revision(settings.get("revision") or "", adapter),
    )
    if not isinstance(base_name, str) or not base_name:
        raise AdapterError(
            f"{adapter} does not say what its base is (base_model_name_or_path); choose another adapter."
        )
    is_sample = base_name == SAMPLE_HUB_ID and revision in ("", SAMPLE_REVISION)
    source = _find_base("sample" if is_sample else base_name, revision, adapter, on_progress, should_stop)
    head = _check_fit(shapes, settings, source, rows, base_name, adapter)
    config = load_config(source, rows)
    named = {int(i): str(label)[:200] for i, label in _own_labels(source).items()}
    labels = (
        [named.get(i, f"LABEL_{i}") for i in range(rows)]
        if len(set(named.values())) == rows
        else [f"LABEL_{i}" for i in range(rows)]
    )
    length = min(FOREIGN_LENGTH, int(getattr(config, "max_position_embeddings", None) or FOREIGN_LENGTH))
    note = AdapterNote(
        "sample" if is_sample else base_name,
        base_name,
        SAMPLE_REVISION if is_sample else source.revision,
        labels,
        False,
        "fp32",
        "float32",
        length,
        int(getattr(config, "pad_token_id", None) or 0),
    )
    remark = (
        f"{adapter} was not made by this app: its labels are called {labels[0][:40]} to {labels[-1][:40]} and have no"
        " order, its base is taken at FP32, and the untrained head beside it is made up."
    )
    return _write(
        folder,
        cached_assets_path("qlora_demo", "adapters", place),
        {**settings, "inference_mode": True},
        note,
        head,
        remark,
    )


def _write(
    folder: Path, target: Path, settings: Mapping[str, Any], note: AdapterNote, head: checks.Shapes, remark: str
) -> Path:
    """The files of an adopted adapter in `target`, the remark last: where it lies, all do."""
    if (target / REMARK_FILE).is_file():
        return target
    with tempfile.TemporaryDirectory(dir=target.parent) as place:
        draft = Path(place)
        random = torch.Generator().manual_seed(0)
        save_file(
            {name: torch.randn(shape, generator=random) * 0.02 for name, shape in head.items()}, draft / HEAD_FILE
        )
        shutil.copyfile(folder / WEIGHTS_FILE, draft / WEIGHTS_FILE)
        for name, content in ((CONFIG_FILE, settings), (NOTE_FILE, asdict(note))):
            (draft / name).write_text(json.dumps(content, indent=2) + "\n")
        (draft / REMARK_FILE).write_text(remark, encoding="utf-8")
        for name in (HEAD_FILE, WEIGHTS_FILE, CONFIG_FILE, NOTE_FILE, REMARK_FILE):
            (draft / name).replace(target / name)
    return target


def _find_base(
    model: str, revision: str, adapter: str, on_progress: OnProgress | None, should_stop: ShouldStop | None
) -> ModelSource:
    """The base's configuration: of the sample, or of a model on the Hub."""
    if not is_hub_id(model):
        raise AdapterError(
            f"{adapter} was trained on a base that is not on the Hub ({shorten(model, 60)!r}); choose another adapter."
        )
    try:
        return resolve(
            model,
            "" if model == "sample" else revision,
            config_only=True,
            on_progress=on_progress,
            should_stop=should_stop,
        )
    except DownloadStopped:
        raise
    except ModelError as error:
        raise AdapterError(f"The base of {adapter} cannot be used: {error}") from error
    except HubError as error:
        raise HubError(f"The base of {adapter} cannot be had: {error}") from error


def _check_fit(
    shapes: checks.Shapes, settings: Mapping[str, Any], source: ModelSource, rows: int, base_name: str, adapter: str
) -> checks.Shapes:
    try:
        base = read_blueprint(source, rows).model
    except DemoError as error:
        raise AdapterError(f"The base of {adapter} cannot be used: {error}") from error
    return checks.check_fit(shapes, settings, base, base_name, adapter)


def _own_labels(source: ModelSource) -> dict[str, Any]:
    """The labels in the base's own configuration, where it is a classifier."""
    if source.shape is not None:
        return {}
    stated = json.loads((source.folder / "config.json").read_text(encoding="utf-8")).get("id2label")
    return stated if isinstance(stated, dict) and all(str(key).isdigit() for key in stated) else {}
